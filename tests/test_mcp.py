"""The endpoints as an agent's tools, over MCP: ``tests/run`` has the extra they need."""

import asyncio
import base64
import re

import httpx
import numpy as np
import pytest
from helpers import picture
from serving import served_apart

from demo.runs.request import predictor_for
from masa.pictures.read import read_photo
from masa.pictures.write import encode
from masa.weights import choose_weights

mcp = pytest.importorskip("mcp", reason="gradio[mcp] is not installed")
from mcp.client.streamable_http import streamable_http_client  # noqa: E402

LR, REF = picture(16, 24, 1), picture(72, 80, 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    environment = {"GRADIO_MCP_SERVER": "True"}
    with served_apart(folder, "--no-examples", environment=environment) as (url, _):
        yield url
    assert "Traceback" not in (folder / "log").read_text()


def ask(server, question):
    """What ``question(session)`` returns, asked by an agent of its own."""

    async def connected():
        async with (
            streamable_http_client(f"{server}/gradio_api/mcp/") as (read, write, *_),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await question(session)

    return asyncio.run(connected())


def uploaded(server, pixels):
    files = {"files": ("photo.png", encode(".png", pixels))}
    path = httpx.post(f"{server}/gradio_api/upload", files=files).json()[0]
    return f"{server}/gradio_api/file={path}"


def test_an_agent_sees_three_described_tools(server):
    tools = ask(server, lambda session: session.list_tools()).tools
    assert {tool.name for tool in tools} == {"super_resolve", "explain", "robustness"}
    for tool in tools:
        properties = tool.inputSchema["properties"]
        assert tool.description and {"photo", "references", "is_hr"} <= set(properties)
        assert all(field.get("description") for field in properties.values())


def test_an_agent_gets_the_predictors_own_picture(server):
    text = base64.b64encode(encode(".png", REF)).decode()
    refs = [f"data:image/png;base64,{text}"]
    fields = {"photo": uploaded(server, LR), "references": refs}
    answer = ask(server, lambda session: session.call_tool("super_resolve", fields))
    assert not answer.isError, answer
    (told,) = (part.text for part in answer.content)  # the picture's address, and the numbers
    assert "'result': [96, 64]" in told
    address = re.search(rf"{server}/gradio_api/file=[^']*masa_x4.png", told)
    found = read_photo(httpx.get(address.group()).content).rgb
    expected = predictor_for(choose_weights(made_clean=False)).run(LR, [REF])
    assert np.abs(found.astype(int) - expected.rgb).max() <= 1


def test_an_agent_is_told_in_a_sentence(server):
    fields = {"photo": uploaded(server, LR), "shift": "custom", "gain": 9}
    answer = ask(server, lambda session: session.call_tool("super_resolve", fields))
    assert answer.isError
    assert "gain is 9: choose a value from 0.4 to 1.6." in answer.content[0].text
