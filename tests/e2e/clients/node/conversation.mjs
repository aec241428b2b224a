// Conversations of the official Node SDK. Writes what it sent and received to stdout, an object a line.
//
//   OPENAI_BASE_URL=https://localhost:8765/v1 node conversation.mjs text|tool|voice MODEL

import { OpenAI } from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

const [kind, model] = process.argv.slice(2);
const connection = new OpenAIRealtimeWS({ model }, new OpenAI({ apiKey: 'sk-test-of-the-node-sdk' }));

const received = [];
let awaken = () => {};
connection.on('event', (event) => {
  received.push(event);
  awaken();
});
connection.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});

const closed = new Promise((resolve) => connection.socket.on('close', resolve));

function send(event) {
  console.log(JSON.stringify({ sent: event }));
  connection.send(event);
}

let seen = 0;
async function next(type) {
  for (;;) {
    while (seen < received.length) {
      const event = received[seen++];
      if (event.type === type) return event;
    }
    await new Promise((resolve) => (awaken = resolve));
  }
}

function ask(text) {
  const content = [{ type: 'input_text', text }];
  send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  send({ type: 'response.create' });
}

async function text() {
  ask('What is the capital of France?');
  await next('response.done');
  ask('And how many people live there?');
  await next('response.done');
}

async function tool() {
  ask('What is the weather in London?');
  const { response } = await next('response.done');
  for (const call of response.output.filter((item) => item.type === 'function_call')) {
    const output = JSON.stringify({ ...JSON.parse(call.arguments), sky: 'foggy' });
    const item = { type: 'function_call_output', call_id: call.call_id, output };
    send({ type: 'conversation.item.create', item });
  }
  send({ type: 'response.create' });
  await next('response.done');
}

const RATE = 24000;

function sound(seconds, loudness) {
  const samples = Int16Array.from({ length: seconds * RATE }, (_, n) => loudness * Math.sin(n / 10));
  return Buffer.from(samples.buffer);
}

function speak(pcm) {
  const chunk = (RATE / 10) * 2;
  for (let at = 0; at < pcm.length; at += chunk) {
    send({ type: 'input_audio_buffer.append', audio: pcm.subarray(at, at + chunk).toString('base64') });
  }
}

async function voice() {
  const input = {
    format: { type: 'audio/pcm', rate: RATE },
    transcription: { model: 'gpt-4o-mini-transcribe' },
    turn_detection: { type: 'server_vad', silence_duration_ms: 300 },
  };
  send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['audio'], audio: { input } } });
  await next('session.updated');
  speak(Buffer.concat([sound(0.5, 0), sound(1.2, 12000), sound(0.6, 0)]));
  await next('response.done');
}

await next('session.created');
await { text, tool, voice }[kind]();
connection.close({ code: 1000, reason: 'that was all' });
const code = await closed;
for (const event of received) console.log(JSON.stringify({ received: event }));
console.log(JSON.stringify({ closed: code }));
