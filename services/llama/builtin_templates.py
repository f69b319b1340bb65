"""Chat templates for GGUFs without a good one, by the name that `--chat-template` takes.

Our own, in the format of the family that gave each its name.
"""

from __future__ import annotations

from collections.abc import Mapping

# For those without any, too.
CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

# ChatML with tools in the manner of Hermes, which the Qwen family took over.
_HERMES = """\
{%- set first = 0 -%}
{%- set system = '' -%}
{%- if messages[0].role == 'system' -%}
{%- set first = 1 -%}
{%- set system = messages[0].content -%}
{%- endif -%}
{%- if system or tools -%}
{{ '<|im_start|>system\\n' + system }}
{%- if tools -%}
{{ ('\\n\\n' if system else '') + '# Tools\\n\\nYou may call functions to help with the request. \
Their signatures:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor -%}
{{ '\\n</tools>\\n\\nFor each call, answer with a JSON object inside tags:\\n<tool_call>\\n\
{"name": <function name>, "arguments": <arguments object>}\\n</tool_call>' }}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages[first:] -%}
{%- if message.role == 'tool' -%}
{%- if loop.first or loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif -%}
{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif -%}
{%- else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] -%}
{{ ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n{"name": ' + \
(call.function.name | tojson) + ', "arguments": ' + (call.function.arguments | tojson) + \
'}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""

_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + (message.content | trim) + \
'<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""

_MISTRAL = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role not in ['user', 'assistant'] -%}
{{ raise_exception('Only the roles user and assistant are supported.') }}
{%- endif -%}
{%- if (message.role == 'user') != (loop.index0 is even) -%}
{{ raise_exception('The roles user and assistant must alternate, beginning with user.') }}
{%- endif -%}
{%- if message.role == 'user' -%}
{{ '[INST] ' + (message.content | trim) + ' [/INST]' }}
{%- else -%}
{{ ' ' + (message.content | trim) + eos_token }}
{%- endif -%}
{%- endfor -%}
"""

_GEMMA = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ raise_exception('There is no system turn.') }}
{%- endif -%}
{%- if (message.role == 'user') != (loop.index0 is even) -%}
{{ raise_exception('The roles user and assistant must alternate, beginning with user.') }}
{%- endif -%}
{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + \
(message.content | trim) + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""

BUILTIN: Mapping[str, str] = {
    "chatml": CHATML,
    "hermes": _HERMES,
    "llama3": _LLAMA3,
    "mistral": _MISTRAL,
    "gemma": _GEMMA,
}
