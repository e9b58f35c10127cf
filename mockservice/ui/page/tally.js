// Counts the results: lanes, pods and the edges between them, leaks and failures.
//
// Each count that an upstream could grow has a limit.

const MAX_LANES = 12;
const MAX_APPS = 32;
const MAX_PODS = 200;
const MAX_KINDS = 100;
const MAX_RECENT = 50;
const MAX_SAMPLES = 180;
const FORGET_AFTER = 60_000;

export const GATEWAY = "gateway";
// The key for all lanes above the limit; no version is empty.
const OTHERS = "";
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
    this.mixedCount = 0;
    this.failures = new Map();
    this.failureCount = 0;
    this.recent = [];
    this.window = [];
    this.windowByLane = new Map();
    this.edges = new Map();
    this.faults = new Map();
    this.samples = [];
  }

  /** Count a result and return its route. */
  add(result) {
    this.requests += 1;
    const route = this.route(result);
    const { lane } = result;
    if (lane !== null) {
      const isKept = this.byLane.has(lane) || this.byLane.size < MAX_LANES;
      count(this.byLane, isKept ? lane : OTHERS, 1);
    }
    this.recent.unshift(result);
    this.recent.length = Math.min(this.recent.length, MAX_RECENT);
    if (result.leaks.length > 0) this.leakCount += 1;
    const kinds = new Map(result.leaks.map((leak) => [leak.kind, leak.text]));
    for (const [kind, text] of kinds) list(this.leaks, kind, result, text);
    if (result.isMixed) this.mixedCount += 1;
    if (route.fault !== null) {
      const { status, hop, reason } = result.fault;
      this.failureCount += 1;
      const key = `${status ?? "no answer"} at ${hop}: ${reason}`;
      list(this.failures, key, result, missingIn(result)?.text ?? "");
    }
    this.window.push({ lane, route });
    this.enter(this.window.at(-1), 1);
    this.lookAt(this.last);
    return route;
  }

  /** Set the window to the last `last` requests. */
  lookAt(last) {
    this.last = last;
    while (this.window.length > last) this.enter(this.window.shift(), -1);
  }

  /** Add the current shares to the history. */
  sample(expected) {
    const known = total(this.windowByLane);
    const shares = new Map([...this.windowByLane].map(([lane, seen]) => [lane, seen / known]));
    this.samples.push({ shares, expected });
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
  }

  /** Remove pods that have not answered for a minute, and apps without pods. */
  forget(now) {
    const passed = this.passed();
    for (const [key, pod] of this.pods) {
      if (now - pod.seen > FORGET_AFTER && !passed.has(key)) this.pods.delete(key);
    }
    const kept = new Set([...this.pods.values(), ...this.faults.values()].map(({ app }) => app));
    this.apps = this.apps.filter((app) => kept.has(app));
  }

  /** Return the nodes that the requests in the window have passed. */
  passed() {
    return new Set([...this.edges.values()].flatMap(({ from, to }) => [from, to]));
  }

  /** Return the lanes to show, including the expected ones, and how many are left out. */
  lanes(expected) {
    const names = new Set([...(expected?.keys() ?? []), ...this.byLane.keys()]);
    for (const pod of this.pods.values()) names.add(pod.lane);
    for (const { lane } of this.faults.values()) if (lane !== null) names.add(lane);
    names.delete(OTHERS);
    const sorted = [...names].sort(compare);
    return { lanes: sorted.slice(0, MAX_LANES), left: Math.max(0, sorted.length - MAX_LANES) };
  }

  /** Return the app behind another one, or null if it is not known yet. */
  appBehind(app) {
    return this.apps[this.apps.indexOf(app) + 1] ?? null;
  }

  // The nodes that a request passes, and the edges between them without duplicates.
  route(result) {
    const steps = [GATEWAY];
    const edges = new Map();
    let leak = null;
    const goTo = (to, kind) => {
      const from = steps.at(-1);
      const key = JSON.stringify([from, to, kind]);
      edges.set(key, { key, from, to, kind });
      steps.push(to);
    };
    result.hops.forEach((hop, place) => {
      this.placeApp(hop.app, result.hops[place - 1]?.app);
      const key = this.pod(hop);
      if (key === null) return;
      goTo(key, hop.isLeak ? "leak" : hop.isFallback ? "fallback" : "");
      if (hop.isLeak) leak ??= steps.length - 1;
    });
    const fault = this.faultPlace(result, steps.at(-1));
    if (fault !== null && fault.key !== steps.at(-1)) goTo(fault.key, "fault");
    if (missingIn(result) !== undefined) leak ??= steps.length - 1;
    return { steps, edges: [...edges.values()], fault, leak, lane: result.lane };
  }

  placeApp(app, before) {
    if (this.apps.includes(app) || this.apps.length >= MAX_APPS) return;
    const at = before === undefined ? 0 : this.apps.indexOf(before) + 1;
    this.apps.splice(at, 0, app);
  }

  pod({ app, version, lane, ip }) {
    const key = `pod ${JSON.stringify([app, version, ip])}`;
    if (!this.pods.has(key)) {
      if (this.pods.size >= MAX_PODS || !this.apps.includes(app)) return null;
      this.pods.set(key, { key, app, version, ip, count: 0 });
    }
    const pod = this.pods.get(key);
    // An edit of the manifests may make it another lane's.
    pod.lane = lane;
    pod.count += 1;
    pod.seen = Date.now();
    return key;
  }

  // Where a request failed: at the gateway, at the last pod that answered, or behind that pod. In
  // the last case the app is the one that the answer names, or else the next known app. A failure
  // that the request was owed has no place.
  faultPlace(result, last) {
    const { fault, hops } = result;
    if (fault === null || fault.isOwed) return null;
    const missing = missingIn(result);
    const reason = missing?.text ?? `${fault.status ?? ""} ${fault.reason}`.trim();
    const before = hops.at(-1);
    if (before === undefined) return { key: GATEWAY, app: null, lane: null, reason };
    if (missing === undefined && fault.hop === before.app) {
      return { key: last, app: before.app, lane: null, reason };
    }
    const row = fault.lane ?? before.lane;
    const name = missing?.app ?? (fault.isNamed ? fault.hop : null);
    // The name may also be the address of a known app.
    if (name !== null && this.appBehind(before.app) === null) this.placeApp(name, before.app);
    const app = this.apps.includes(name) ? name : null;
    const key = `fault ${JSON.stringify([app, before.app, row])}`;
    return { key, app, before: before.app, lane: row, reason };
  }

  // Count a request that enters (`by` 1) or leaves (`by` -1) the window.
  enter({ lane, route: { edges, fault } }, by) {
    if (lane !== null) count(this.windowByLane, lane, by);
    for (const edge of edges) countOf(this.edges, edge, by);
    if (fault !== null) countOf(this.faults, fault, by);
  }
}

/** Return the leak of a hop that did not answer, which is one past the end, if there is one. */
export function missingIn({ hops, leaks }) {
  return leaks.find(({ place }) => place === hops.length);
}

/** Return the sum of a map's counts. */
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

function countOf(kinds, one, by) {
  const known = kinds.get(one.key)?.count ?? 0;
  if (known + by === 0) kinds.delete(one.key);
  else kinds.set(one.key, { ...one, count: known + by });
}

function list(kinds, key, result, text) {
  const known = kinds.get(key);
  if (known === undefined && kinds.size >= MAX_KINDS) return;
  kinds.set(key, { count: (known?.count ?? 0) + 1, latest: result, text });
}
