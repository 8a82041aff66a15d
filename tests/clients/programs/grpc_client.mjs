// A gRPC client made from protos/ alone: jobs listed, a chat streamed.
import assert from "node:assert/strict";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const { CORRAL_PROTOS, CORRAL_SERVER, CORRAL_INFERENCE, CORRAL_MODEL } = process.env;
const files = ["corral/v1/trainer.proto", "corral/v1/inference.proto"];
const definition = loader.loadSync(files, { includeDirs: [CORRAL_PROTOS], enums: String });
const { corral } = grpc.loadPackageDefinition(definition);
const plain = grpc.credentials.createInsecure();
const trainer = new corral.v1.Trainer(CORRAL_SERVER, plain);
const inference = new corral.v1.Inference(CORRAL_INFERENCE, plain);

const listed = await new Promise((resolve, reject) =>
  trainer.listTrainingJobs({}, (error, answer) => (error ? reject(error) : resolve(answer))),
);
assert.ok(listed.jobs.some((job) => job.fineTunedModel === CORRAL_MODEL));

const responses = [];
for await (const response of inference.chat({
  model: CORRAL_MODEL,
  messages: [{ role: "ROLE_USER", content: "Say a" }],
  sampling: { maxTokens: 5 },
})) {
  responses.push(response);
}
assert.match(responses.at(-1).finish.reason, /^FINISH_REASON_(STOP|LENGTH)$/);
trainer.close();
inference.close();
