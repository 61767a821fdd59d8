// How Turnout chooses a variant, less the conditions of rules: for any Node from 20 on, without dependencies.
// docs/routing.md says what it does and why; routing-vectors.json is what it has to give.
import { createHash } from "node:crypto";

/** A number in (0, 1) that depends on the four texts only. */
export function uniform(salt, purpose, id, key) {
  const text = [salt, purpose, id, key].join("\x1f");
  if (!text.isWellFormed()) throw new Error("ROUTING_KEY_NOT_TEXT");
  const digest = createHash("blake2b512").update(text, "utf8").digest();
  return (Number(digest.readBigUInt64BE(0) >> 12n) + 0.5) * 2 ** -52;
}

/** What a variant brings to the race. */
export function score(salt, key, { variant, weight }) {
  return -weight / Math.log(uniform(salt, "assign", variant, key));
}

/** The uid that wins among `[{ variant, weight }, …]`: the highest score; of equal ones the smaller uid. Null if none can. */
export function assign(salt, key, candidates) {
  let best = null;
  for (const candidate of candidates.filter(({ weight }) => weight > 0)) {
    const found = { variant: candidate.variant, score: score(salt, key, candidate) };
    const isHigher = best === null || found.score > best.score;
    if (isHigher || (found.score === best.score && found.variant < best.variant)) best = found;
  }
  return best && best.variant;
}

/** Whether the rules and weights are for a unit. One that is covered stays so when coverage grows. */
export function isCovered(salt, deployment, key, coverage) {
  return coverage >= 1 || uniform(salt, "admit", deployment, key) < coverage;
}

/** What the choice sticks to: the first that the call gives, else its own id. */
export function chooseKey(call) {
  const kind = ["routing_key", "identity", "thread", "user"].find((name) => call[name]);
  return kind ? { kind, key: call[kind] } : { kind: "request", key: call.request_id };
}

/**
 * The variant for a key, whether it is outside coverage, and the probability of that variant.
 *
 * `revision` is `{ salt, variants: [{ uid, active, weight }, …], coverage, baseline }`; `split` is that of the rule that
 * matched, `[{ variant, weight }, …]`, or null if none did. A `variant` of null means NO_ACTIVE_VARIANT.
 */
export function decide(revision, deployment, split, key) {
  const { salt, variants, coverage = 1, baseline = "" } = revision;
  const active = new Set(variants.filter((each) => each.active).map((each) => each.uid));
  const shares = split ?? variants.map(({ uid, weight }) => ({ variant: uid, weight }));
  const candidates = shares.filter((share) => share.weight > 0 && active.has(share.variant));

  const outside = !isCovered(salt, deployment, key, coverage);
  const served = active.has(baseline) ? baseline : null;
  const variant = outside ? served : assign(salt, key, candidates);

  const sum = (some) => some.reduce((total, share) => total + share.weight, 0);
  const total = sum(candidates);
  const covered = total && sum(candidates.filter((share) => share.variant === variant)) / total;
  const propensity = coverage * covered + (1 - coverage) * (variant === baseline);
  return { variant, outside_coverage: outside, propensity: variant === null ? 0 : propensity };
}
