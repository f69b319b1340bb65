// Anthropic's official SDK for Node: messages, streams, counts, errors.
import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'

const { BASE_URL, MODEL } = process.env
const client = new Anthropic({ baseURL: BASE_URL.replace(/\/v1$/, ''), apiKey: 'none', maxRetries: 0 })
const ask = { model: MODEL, max_tokens: 100, temperature: 0, messages: [{ role: 'user', content: 'What is the capital of France?' }] }

const answer = await client.messages.create(ask)
assert.match(answer.content[0].text, /Paris/)
const whole = await client.messages.stream(ask).finalMessage()
assert.equal(whole.content[0].text, answer.content[0].text)
const { input_tokens: counted } = await client.messages.countTokens({ model: MODEL, messages: ask.messages })
assert.equal(counted, answer.usage.input_tokens + answer.usage.cache_read_input_tokens)
await assert.rejects(client.messages.create({ ...ask, model: 'nobody' }), Anthropic.NotFoundError)
await assert.rejects(client.messages.create({ ...ask, temperature: 3 }), Anthropic.BadRequestError)
