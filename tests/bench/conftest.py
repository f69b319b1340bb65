import pytest
from aiohttp import web


@pytest.fixture
async def serve():
    """Serves a fake; its URL."""
    runners = []

    async def start(fake):
        runner = web.AppRunner(fake.app(), handler_cancellation=True)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    yield start
    for runner in runners:
        await runner.cleanup()
