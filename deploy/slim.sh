#!/bin/sh
# slim.sh VENV: take out of an installed environment what a running service never reads.
set -eu
site=$(echo "${1:?an environment}"/lib/python3*/site-packages)

# Test suites, headers, static libraries and generated C that wheels carry along.
find "$site" -type d -name tests -prune -exec rm -rf {} +
find "$site" -type f \( -name '*.a' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' \) -delete

# Debug information. A library that its packager relocated can break when it is stripped, so those in
# *.libs folders are left as they are.
find "$site" -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +

# llama-cpp-python's wheel holds llama.cpp twice, and each library three times, since wheels know no links: keep
# llama_cpp/lib, as links, and the CPU kernels in bin/.
if [ -d "$site/llama_cpp/lib" ]; then
    rm -rf "${site:?}"/include "${site:?}"/lib
    for versioned in "$site"/llama_cpp/lib/*.so.*.*.*; do
        [ -e "$versioned" ] || continue
        name=${versioned%.so.*} major=${versioned#*.so.}
        rm "$versioned"
        ln -sf "$(basename "$name").so.${major%%.*}" "$name.so"
    done
fi
