// OpenAI's Node package: upload, train, watch, chat.
import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI from "openai";

const { CORRAL_GATEWAY, CORRAL_BASE, CORRAL_ROWS } = process.env;
const client = new OpenAI({ baseURL: `${CORRAL_GATEWAY}/v1`, apiKey: "none", maxRetries: 0 });

const file = await client.files.create({
  file: fs.createReadStream(CORRAL_ROWS),
  purpose: "fine-tune",
});
assert.equal(file.status, "processed");

let job = await client.fineTuning.jobs.create({
  model: CORRAL_BASE,
  training_file: file.id,
  suffix: "node",
  max_length: 128,
  eval_prompts: 0,
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 2 } } },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  job = await client.fineTuning.jobs.retrieve(job.id);
}
assert.equal(job.status, "succeeded");

const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 })) events.push(event);
assert.ok(events.some((event) => event.type === "metrics"));
const checkpoints = await client.fineTuning.jobs.checkpoints.list(job.id);
assert.equal(checkpoints.data.length, 1);

const asked = {
  model: job.fine_tuned_model,
  messages: [{ role: "user", content: "Say a" }],
  max_tokens: 5,
  temperature: 0,
};
const whole = await client.chat.completions.create(asked);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);

await assert.rejects(client.models.retrieve("nothing"), OpenAI.NotFoundError);
assert.ok((await client.models.delete(job.fine_tuned_model)).deleted);
