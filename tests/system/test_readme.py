"""What the README tells people to write is run as it stands, with the addresses and the key that they would fill in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.services import Installation
from tests.system import node
from tests.system.clients import Clients, eventually
from tests.system.node import NodeSdk

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
LANGUAGES = {"generated client": "python", "OpenAI SDK": "python", "Node": "js", "cURL": "sh"}
pytestmark = pytest.mark.parametrize("installation", ["all"], indirect=True)


@pytest.fixture
async def shop(shop: Clients, instant_llm: str) -> Clients:
    """A tenant with the deployment that the README calls."""
    await shop.create_provider("instant", instant_llm)
    prompt = "You are an expert on {{ country }}. Answer in {{ language }}."
    await shop.create_deployment("travel-assistant", "instant", prompts=[prompt, f"{prompt} Be warm."])
    variables = '{"country": "France", "language": "English"}'
    await eventually(lambda: shop.run("travel-assistant", variables_json=variables))
    return shop


def snippet(name: str, installation: Installation, shop: Clients) -> str:
    """The code below the bold heading that holds `name`."""
    heading = README.index(next(line for line in README.splitlines() if line.startswith("**") and name in line))
    start = README.index(f"```{LANGUAGES[name]}\n", heading) + len(LANGUAGES[name]) + 4
    code = README[start : README.index("```", start)]
    assert "tk_…" in code
    code = code.replace("127.0.0.1:7070", installation.address("executor"))
    return code.replace("127.0.0.1:8080", installation.http_address).replace("tk_…", shop.key)


def output(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_generated_client_is_called_as_the_readme_says(
    installation: Installation, shop: Clients, tmp_path: Path
) -> None:
    said = output(sys.executable, "-c", snippet("generated client", installation, shop), cwd=tmp_path)
    assert re.fullmatch(r"The capital of France is Paris\. — variant-[01]\n", said)


def test_the_openai_sdk_for_python_is_called_as_the_readme_says(
    installation: Installation, shop: Clients, tmp_path: Path
) -> None:
    code = snippet("OpenAI SDK", installation, shop)
    assert output(sys.executable, "-c", code, cwd=tmp_path) == "The capital of France is Paris.\n"


def test_what_the_readme_says_for_node_can_be_parsed(installation: Installation, shop: Clients, tmp_path: Path) -> None:
    # Here without npm's packages, which not everybody reaches.
    node.check(snippet("Node", installation, shop), tmp_path)


def test_the_openai_sdk_for_node_is_called_as_the_readme_says(
    installation: Installation, shop: Clients, node_sdk: NodeSdk
) -> None:
    assert node_sdk.run(snippet("Node", installation, shop)) == "The capital of France is Paris.\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_is_called_as_the_readme_says(installation: Installation, shop: Clients, tmp_path: Path) -> None:
    said = output("bash", "-c", snippet("cURL", installation, shop).replace("curl ", "curl -sS ", 1), cwd=tmp_path)
    assert '"content":"The capital of France is Paris."' in said
