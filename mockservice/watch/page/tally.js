// What the results come to: lanes, pods and the ways between them, leaks and failures.
//
// Everything that an upstream can make more of has a limit.

const MAX_LANES = 12;
const MAX_APPS = 12;
const MAX_PODS = 200;
const MAX_KINDS = 100;
const MAX_RECENT = 50;
const MAX_SAMPLES = 180;
const FORGET_AFTER = 60_000;

export const GATEWAY = "gateway";
const compare = new Intl.Collator("en", { numeric: true }).compare;

export class Tally {
  constructor() {
    this.last = 100;
    this.clear();
  }

  clear() {
    this.requests = 0;
    this.byLane = new Map();
    this.apps = [];
    this.pods = new Map();
    this.leaks = new Map();
    this.leakCount = 0;
    this.failures = new Map();
    this.failureCount = 0;
    this.recent = [];
    this.window = [];
    this.windowByLane = new Map();
    this.edges = new Map();
    this.faults = new Map();
    this.samples = [];
  }

  /** Count a result; what is drawn of it. */
  add(result) {
    this.requests += 1;
    const route = this.route(result);
    if (result.lane !== null && (this.byLane.has(result.lane) || this.byLane.size < MAX_LANES)) {
      count(this.byLane, result.lane, 1);
    }
    this.recent.unshift(result);
    this.recent.length = Math.min(this.recent.length, MAX_RECENT);
    if (result.hops.some((hop) => hop.isLeak)) {
      this.leakCount += 1;
      list(this.leaks, result.outline, result);
    }
    if (result.fault !== null) {
      const { status, hop, reason } = result.fault;
      this.failureCount += 1;
      list(this.failures, `${status ?? "no answer"} at ${hop}: ${reason}`, result);
    }
    this.enter({ lane: result.lane, route });
    return route;
  }

  /** Look at so many of the last requests. */
  lookAt(last) {
    this.last = last;
    while (this.window.length > last) this.leave();
  }

  /** Remember the shares of now, for the history; forget pods that answer no more. */
  sample(expected) {
    const known = total(this.windowByLane);
    const shares = new Map([...this.windowByLane].map(([lane, seen]) => [lane, seen / known]));
    this.samples.push({ shares, expected });
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
  }

  forget(now) {
    for (const [key, pod] of this.pods) {
      if (now - pod.seen > FORGET_AFTER) this.pods.delete(key);
    }
  }

  /** All lanes to show: those expected, those seen, and the versions of pods. */
  lanes(expected) {
    const versions = [...this.pods.values()].map((pod) => pod.version);
    const faults = [...this.faults.values()].map((fault) => fault.lane);
    const names = new Set([...Object.keys(expected ?? {}), ...this.byLane.keys(), ...versions]);
    for (const lane of faults) if (lane !== null) names.add(lane);
    return [...names].sort(compare).slice(0, MAX_LANES);
  }

  // The places that a request passes, and the edges between them.
  route(result) {
    const steps = [GATEWAY];
    const edges = [];
    const goTo = (key, kind) => {
      edges.push({ key: `${steps.at(-1)} > ${key}`, from: steps.at(-1), to: key, kind });
      steps.push(key);
    };
    result.hops.forEach((hop, place) => {
      this.placeApp(hop.app, result.hops[place - 1]?.app);
      const key = this.pod(hop, result.time);
      if (key === null) return;
      goTo(key, hop.isLeak ? "leak" : hop.isFallback ? "fallback" : "");
    });
    const fault = this.faultPlace(result, steps.at(-1));
    if (fault !== null && fault.key !== steps.at(-1)) goTo(fault.key, "fault");
    const leak = result.hops.findIndex((hop) => hop.isLeak);
    return { steps, edges, fault, leak: leak < 0 ? null : leak + 1, lane: result.lane };
  }

  placeApp(app, before) {
    if (this.apps.includes(app) || this.apps.length >= MAX_APPS) return;
    const at = before === undefined ? 0 : this.apps.indexOf(before) + 1;
    this.apps.splice(at, 0, app);
  }

  pod({ app, version, ip }, time) {
    const key = `pod ${JSON.stringify([app, version, ip])}`;
    const known = this.pods.get(key);
    if (known !== undefined) {
      known.count += 1;
      known.seen = time;
      return key;
    }
    if (this.pods.size >= MAX_PODS || !this.apps.includes(app)) return null;
    this.pods.set(key, { key, app, version, ip, count: 1, seen: time });
    return key;
  }

  // Where a request failed: at the gateway, at the pod that answered so, or at the next app.
  faultPlace({ fault, hops, lane }, last) {
    if (fault === null) return null;
    const reason = `${fault.status ?? ""} ${fault.reason}`.trim();
    const before = hops.at(-1);
    if (before === undefined) return { key: GATEWAY, app: null, lane: null, reason };
    if (fault.hop === before.app) return { key: last, app: before.app, lane: null, reason };
    const next = this.apps[this.apps.indexOf(before.app) + 1];
    const app = this.apps.includes(fault.hop) ? fault.hop : (next ?? fault.hop);
    this.placeApp(app, before.app);
    const row = lane ?? before.version;
    return { key: `fault ${JSON.stringify([app, row])}`, app, lane: row, reason };
  }

  enter(entry) {
    this.window.push(entry);
    if (entry.lane !== null) count(this.windowByLane, entry.lane, 1);
    for (const edge of entry.route.edges) {
      const known = this.edges.get(edge.key) ?? { ...edge, count: 0, kinds: new Map() };
      known.count += 1;
      count(known.kinds, edge.kind, 1);
      this.edges.set(edge.key, known);
    }
    const { fault } = entry.route;
    if (fault !== null) {
      const known = this.faults.get(fault.key) ?? { count: 0 };
      this.faults.set(fault.key, { ...fault, count: known.count + 1 });
    }
    while (this.window.length > this.last) this.leave();
  }

  leave() {
    const { lane, route } = this.window.shift();
    if (lane !== null) count(this.windowByLane, lane, -1);
    for (const edge of route.edges) {
      const known = this.edges.get(edge.key);
      known.count -= 1;
      count(known.kinds, edge.kind, -1);
      if (known.count === 0) this.edges.delete(edge.key);
    }
    if (route.fault !== null) {
      const known = this.faults.get(route.fault.key);
      known.count -= 1;
      if (known.count === 0) this.faults.delete(route.fault.key);
    }
  }
}

/** The sum of the counts of a map. */
export function total(counts) {
  let sum = 0;
  for (const number of counts.values()) sum += number;
  return sum;
}

function count(counts, key, by) {
  const now = (counts.get(key) ?? 0) + by;
  if (now === 0) counts.delete(key);
  else counts.set(key, now);
}

function list(kinds, key, result) {
  const known = kinds.get(key);
  if (known === undefined && kinds.size >= MAX_KINDS) return;
  kinds.set(key, { count: (known?.count ?? 0) + 1, latest: result });
}
