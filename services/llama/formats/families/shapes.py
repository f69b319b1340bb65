"""Parts that several families have in common."""

from __future__ import annotations

from services.llama.formats.description import Literals, Outside, Tagged

PYTHON = Literals(
    open="(",
    close=")",
    assign="=",
    quotes=('"""', "'''", '"', "'"),
    escapes=True,
    constants=("True", "False", "None"),
)

# <function=NAME> <parameter=KEY> value </parameter> … </function>
QWEN_FUNCTION = Outside(
    heads=("<function={name}>\n",),
    body=Tagged(("<parameter={key}>",), "</parameter>", lines=True),
    end=("</function>\n",),
)
