"""OpenAI's JSON to the contract's protobuf and back. Pure: nothing here does I/O."""
