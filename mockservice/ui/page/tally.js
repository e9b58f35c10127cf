// Counts the results: lanes, pods and the edges between them, leaks and failures.
//
// Each count that an upstream could grow has a limit.

const MAX_LANES = 12;
const MAX_APPS = 32;
const MAX_PODS = 200;
const MAX_CALLS = 128;
const MAX_EDGES = 1000;
const MAX_FAULTS = 200;
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
    this.calls = new Map();
    // When a request was last seen to run through a tree.
    this.branched = null;
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
    if (route.isFailed) this.failureCount += 1;
    const failures = new Map(
      result.ends.filter(isFailure).map((end) => {
        const { status, hop, reason } = end.fault;
        const key = JSON.stringify([status, hop, reason]);
        if (!result.isTree) return [key, end.missing?.text ?? ""];
        // Other branches may fail as well.
        const branch = `${result.hops[end.last].app} → ${status} ${hop}: ${reason}`;
        return [branch, end.missing?.text ?? branch];
      }),
    );
    for (const [key, text] of failures) list(this.failures, key, result, text);
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
    const shown = new Set(this.window.flatMap(({ route }) => [...route.calls]));
    for (const [key, { from, to, seen }] of this.calls) {
      const isGone = now - seen > FORGET_AFTER && !shown.has(key);
      if (isGone || !kept.has(to) || (from !== null && !kept.has(from))) this.calls.delete(key);
    }
    const isTree = this.window.some(({ route }) => route.isTree);
    if (!isTree && now - this.branched > FORGET_AFTER) this.branched = null;
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

  /** Whether apps have several upstreams. Otherwise they stand in a row, one behind another. */
  get isTree() {
    return this.branched !== null;
  }

  /**
   * Return the app behind another one, or null if it is not known yet. In a tree this is the only
   * upstream that is not among `others`.
   */
  appBehind(app, others) {
    if (!this.isTree) return this.apps[this.apps.indexOf(app) + 1] ?? null;
    const called = [...this.calls.values()].filter(({ from }) => from === app);
    const behind = called.map(({ to }) => to).filter((to) => !others.includes(to));
    return behind.length === 1 ? behind[0] : null;
  }

  // The steps of a request: the nodes that it passes, each with the place of the step before it.
  // And the edges between them without duplicates.
  route(result) {
    const { hops } = result;
    const route = {
      lane: result.lane,
      steps: [{ key: GATEWAY, before: null, isLeak: false, isFailed: false }],
      edges: new Map(),
      calls: new Set(),
      faults: new Map(),
      isFailed: result.ends.some(isFailure),
      isTree: result.isTree,
    };
    if (result.isTree) this.branched = Date.now();
    // The step of each hop; of one that is not kept, the step before.
    const stepOf = new Map([[null, 0]]);
    hops.forEach(({ app, caller, isLeak, isFallback }, place) => {
      this.placeApp(app, hops[place - 1]?.app);
      const call = this.call(hops[caller]?.app ?? null, app);
      if (call !== null) route.calls.add(call);
      const key = this.pod(hops[place]);
      const from = stepOf.get(caller);
      const kind = isLeak ? "leak" : isFallback ? "fallback" : "";
      stepOf.set(place, key === null ? from : this.step(route, key, kind, from, isLeak));
    });
    for (const end of result.ends.filter(isFailure)) {
      const from = stepOf.get(end.last);
      const fault = this.faultPlace(result, end, route.steps[from].key);
      const isNew = !this.faults.has(fault.key);
      if (isNew && this.faults.size + route.faults.size >= MAX_FAULTS) continue;
      route.faults.set(fault.key, fault);
      const isElsewhere = fault.key !== route.steps[from].key;
      const at = isElsewhere ? this.step(route, fault.key, "fault", from, false) : from;
      route.steps[at].isFailed = true;
      if (end.missing !== null) route.steps[at].isLeak = true;
    }
    route.isLeak = route.steps.some(({ isLeak }) => isLeak);
    return route;
  }

  // Add a step, and return its place.
  step(route, key, kind, before, isLeak) {
    const from = route.steps[before].key;
    const edge = JSON.stringify([from, key, kind]);
    if (this.edges.has(edge) || this.edges.size + route.edges.size < MAX_EDGES) {
      route.edges.set(edge, { key: edge, from, to: key, kind });
    }
    return route.steps.push({ key, before, isLeak, isFailed: false }) - 1;
  }

  // Note that an app calls another one; the gateway is null.
  call(from, to) {
    const key = JSON.stringify([from, to]);
    const isNew = !this.calls.has(key);
    const isKnown = this.apps.includes(to) && (from === null || this.apps.includes(from));
    if (isNew && (!isKnown || this.calls.size >= MAX_CALLS)) return null;
    // A known one keeps its place, as the first one wins where calls make a circle.
    this.calls.set(key, { key, from, to, seen: Date.now() });
    return key;
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

  // Where a branch failed: at the gateway, at the last pod that answered, or behind that pod. In
  // the last case the app is the one that the answer names, or else the next known app.
  faultPlace(result, { last, at, fault, missing }, key) {
    const reason = missing?.text ?? `${fault.status ?? ""} ${fault.reason}`.trim();
    const before = result.hops[last];
    if (before === undefined) return { key: GATEWAY, app: null, lane: null, reason };
    if (missing === null && fault.hop === before.app) {
      return { key, app: before.app, lane: null, reason };
    }
    const row = fault.lane ?? before.lane;
    const name = missing?.app ?? (fault.isNamed ? fault.hop : null);
    // The other upstreams of this pod, which answered or are named by other failures.
    const answered = result.hops.filter(({ caller }) => caller === last).map((hop) => hop.app);
    const failed = result.ends.filter((end) => end.last === last && end.fault !== fault);
    const known = new Set([...answered, ...failed.map((end) => end.fault?.hop)]);
    const others = this.apps.filter((app) => known.has(app));
    // The name may also be the address of a known app.
    if (name !== null && this.appBehind(before.app, others) === null) {
      this.placeApp(name, result.hops[at - 1].app);
    }
    const app = this.apps.includes(name) ? name : null;
    if (app !== null) this.call(before.app, app);
    const place = `fault ${JSON.stringify([app, before.app, row, app === null ? others : []])}`;
    return { key: place, app, before: before.app, others, lane: row, reason };
  }

  // Count a request that enters (`by` 1) or leaves (`by` -1) the window.
  enter({ lane, route: { edges, faults } }, by) {
    if (lane !== null) count(this.windowByLane, lane, by);
    for (const edge of edges.values()) countOf(this.edges, edge, by);
    for (const fault of faults.values()) countOf(this.faults, fault, by);
  }
}

// Whether a branch ends with a failure that was not to be.
function isFailure({ fault }) {
  return fault !== null && !fault.isOwed;
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
