"""Makes the virtual environment from the hashed locks: `setup.py VENV STAMP`, for the Makefile.

Runs on the system's python3, whatever its age, before anything is installed: standard library
only, and no syntax newer than Python 3.6 before the version is checked. Safe to repeat.
"""

import glob
import os
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
NEWER = ["python3.%d" % minor for minor in (13, 12, 11, 14)]
PACKAGES = "apt-get install python3 python3-venv build-essential cmake"


def say(text):  # type: (str) -> None
    sys.stderr.write("setup: %s\n" % text)
    sys.stderr.flush()


def fail(text):  # type: (str) -> None
    say(text)
    sys.exit(1)


def on_a_new_python():  # type: () -> None
    """Continues on a newer interpreter when this one is too old; ends the process without one."""
    if sys.version_info >= OLDEST:
        return
    for name in NEWER:
        path = shutil.which(name)
        if path:
            os.execv(path, [path] + sys.argv)
    fail(
        "needs Python %d.%d or newer, and python3 is %s; on Debian and Ubuntu: %s"
        % (OLDEST + (sys.version.split()[0], PACKAGES))
    )


def works(python):  # type: (str) -> bool
    """Whether the environment's pip runs and its Python is new enough."""
    check = "import sys, pip; sys.exit(sys.version_info < %r)" % (OLDEST,)
    try:
        return subprocess.call([python, "-c", check], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv(venv, python):  # type: (str, str) -> None
    if works(python):
        return
    say("making %s with Python %s" % (venv, sys.version.split()[0]))
    if subprocess.call([sys.executable, "-m", "venv", "--clear", venv]) != 0 or not works(python):
        fail("python3 cannot make virtual environments; on Debian and Ubuntu: %s" % PACKAGES)


def install(python, what, *args):  # type: (str, str, str) -> None
    say(what)
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    if subprocess.call(command + ["-qq", "--no-deps"] + list(args)) != 0:
        fail("pip failed at: %s (it needs the network the first time)" % what)


def main(venv, stamp):  # type: (str, str) -> None
    started = time.time()
    on_a_new_python()
    python = os.path.join(venv, "bin", "python")
    make_venv(venv, python)
    install(
        python,
        "installing packages from the lock, about a minute",
        *["--require-hashes", "--only-binary", ":all:", "-r", "requirements/dev.txt"],
    )
    built = subprocess.run(
        [python, "deploy/llama_wheel.py"], stdout=subprocess.PIPE, universal_newlines=True
    )
    if built.returncode != 0:
        sys.exit(built.returncode)
    # One version can have been built with other flags before: pip would see nothing to do.
    wheel = built.stdout.strip()
    install(python, "installing llama.cpp", "--no-index", "--force-reinstall", wheel)
    install(python, "installing caravan", "--no-index", "--no-build-isolation", "--editable", ".")
    for old in glob.glob(os.path.join(venv, ".ready-*")):
        os.remove(old)
    with open(stamp, "w") as ready:
        ready.write(wheel + "\n")
    say("ready in %d s" % (time.time() - started))


if __name__ == "__main__":
    main(*sys.argv[1:])
