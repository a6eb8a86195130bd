// Checks Troth's state proofs with @confio/ics23.
//
// Standard input: {"spec": "troth", "cases": [{"root", "key", "value", "proof", "expect"}]}, where root, key, value and
// proof (a protobuf CommitmentProof) are hexadecimal and `expect` (a boolean) may be left out. Standard output: one line
// of JSON a case, {"case", "accepted", "reason"}. Exit code 0 where every case is as expected, 1 where one is not, 2
// where the input is not of this form.
//
// The spec is ICS-23's `smt`, built here from its fields and not taken from Troth: the package's own is of an older
// form, which did not hash keys.
"use strict";

const { ics23, verifyMembership } = require("@confio/ics23");

const spec = {
  leafSpec: {
    hash: ics23.HashOp.SHA256,
    prehashKey: ics23.HashOp.SHA256,
    prehashValue: ics23.HashOp.SHA256,
    length: ics23.LengthOp.NO_PREFIX,
    prefix: Uint8Array.of(0),
  },
  innerSpec: {
    childOrder: [0, 1],
    childSize: 32,
    minPrefixLength: 1,
    maxPrefixLength: 1,
    emptyChild: new Uint8Array(32),
    hash: ics23.HashOp.SHA256,
  },
  maxDepth: 256,
};

function bytes(text, name) {
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) {
    throw new TypeError(`${name} must be lower-case hexadecimal`);
  }
  return Uint8Array.from(Buffer.from(text, "hex"));
}

function check({ root, key, value, proof }) {
  const [rootBytes, keyBytes, valueBytes] = [bytes(root, "root"), bytes(key, "key"), bytes(value, "value")];
  const encoded = bytes(proof, "proof");
  let decoded;
  try {
    decoded = ics23.CommitmentProof.decode(encoded);
  } catch (error) {
    return { accepted: false, reason: `not a CommitmentProof: ${error.message}` };
  }
  let accepted;
  try {
    accepted = verifyMembership(decoded, spec, rootBytes, keyBytes, valueBytes);
  } catch (error) {
    return { accepted: false, reason: `refused with an error: ${error && error.message}` };
  }
  return { accepted, reason: accepted ? "verifyMembership: true" : "verifyMembership: false" };
}

function main(text) {
  let input;
  try {
    input = JSON.parse(text);
    if (input.spec !== "troth" || !Array.isArray(input.cases)) {
      throw new TypeError('expected {"spec": "troth", "cases": [...]}');
    }
    let differing = 0;
    input.cases.forEach((item, index) => {
      const answer = check(item);
      if (item.expect !== undefined && item.expect !== answer.accepted) {
        differing += 1;
      }
      process.stdout.write(`${JSON.stringify({ case: index, ...answer })}\n`);
    });
    process.exitCode = differing ? 1 : 0;
  } catch (error) {
    process.stderr.write(`verify.cjs: ${error.message}\n`);
    process.exitCode = 2;
  }
}

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => main(Buffer.concat(chunks).toString("utf8")));
