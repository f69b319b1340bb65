"""The command line: a model of its file of extra models, streamed and not, and a conversation."""

import os
import subprocess
from pathlib import Path

MODEL = os.environ["MODEL"]
home = Path.cwd()
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: demo\n  model_name: {MODEL}\n  api_base: {os.environ['BASE_URL']}\n"
    "  supports_tools: true\n  supports_schema: true\n"
)
env = {**os.environ, "LLM_USER_PATH": str(home)}


def llm(*args: str) -> str:
    done = subprocess.run(["llm", *args], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


said = llm("-m", "demo", "-o", "temperature", "0", "What is the capital of France?")
assert "Paris" in said
assert (
    llm("-m", "demo", "--no-stream", "-o", "temperature", "0", "What is the capital of France?")
    == said
)
assert llm("-c", "-o", "temperature", "0", "and of Italy?").strip()
assert "Rome" in llm("-c", "-o", "temperature", "0", "and of Italy?")
assert '"name"' in llm("-m", "demo", "--schema", "name str, age int", "Hello!")
functions = (
    'def get_weather(city: str) -> str:\n    "Get the weather in a city"\n    return "sunny"'
)
assert "sunny" in llm("-m", "demo", "--functions", functions, "What is the weather in Paris?")
