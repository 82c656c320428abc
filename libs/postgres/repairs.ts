/** One place of postgres.js that is changed. */
export interface Repair {
  file: "connection.js" | "index.js" | "queue.js";
  /** Where to look: from the first place that has this text on. */
  from: string;
  /** What is replaced: the first of these after {@linkcode Repair.from}. */
  find: string;
  put: string;
  why: string;
}

/** The version that these are for. */
export const VERSION = "3.4.9";

/** What is wrong with connections that are lost, and what is done about it; README.md tells the whole. */
export const REPAIRS: readonly Repair[] = [
  {
    file: "connection.js",
    from: "function execute(q)",
    find: "if (stream)",
    put: "if (!socket) return queryError(q, Errors.connection('CONNECTION_CLOSED', options))\n    if (stream)",
    why: "a lost connection has no socket until it connects again",
  },
  {
    file: "connection.js",
    from: "function nextWrite(fn)",
    find: "{",
    put: "{\n    if (!socket) return discard()",
    why: "steps of the authentication write after an await, when the socket may be gone",
  },
  {
    file: "connection.js",
    from: "function connectTimedOut()",
    find: "function connectTimedOut()",
    put:
      "function discard() {\n    clearImmediate(nextWriteTimer)\n    chunk = nextWriteTimer = null\n    return true\n  }\n\n" +
      "  function connectTimedOut()",
    why: "what was not sent before a connection ended must not be sent on the next one",
  },
  {
    file: "connection.js",
    from: "function reconnect()",
    find: "setTimeout(connect,",
    put: "setTimeout(() => initial && connect(),",
    why: "destroyed meanwhile: it must not come to life again",
  },
  {
    file: "connection.js",
    from: "function terminate()",
    find: "clearImmediate(nextWriteTimer)",
    put: "discard()",
    why: "as above",
  },
  {
    file: "connection.js",
    from: "function closed(hadError)",
    find: "clearImmediate(nextWriteTimer)",
    put: "discard()",
    why: "as above",
  },
  {
    file: "connection.js",
    from: "function closed(hadError)",
    find: "socket = null",
    put: "socket = null\n" +
      "    if (!initial && (stream || query || sent.length)) error(Errors.connection('CONNECTION_CLOSED', options, socket))\n" +
      "    query = results = errorResponse = null\n    result = new Result()\n    rows = 0\n",
    why:
      "nothing of this session may be left to the next one: its queries would wait for answers that never come, and " +
      "take the answers of others for theirs",
  },
  {
    file: "connection.js",
    from: "function closed(hadError)",
    find: "!hadError && (query || sent.length) && error(Errors.connection('CONNECTION_CLOSED', options, socket))",
    put: "ended && (ended(), ending = ended = null)",
    why: "end() waited for the queries that have just been rejected",
  },
  {
    file: "connection.js",
    from: "initial.reserve && (initial = null)",
    find: "return fetchArrayTypes()",
    put: "return fetchArrayTypes().catch(noop)",
    why: "the query that the connection was made for is rejected, too, and its caller hears of it",
  },
  {
    file: "index.js",
    from: "let savepoints = 0",
    find: ", connection",
    put: ", connection\n      , lost = null",
    why: "see the next one",
  },
  {
    file: "index.js",
    from: "scope(connection, fn)",
    find: "connection.onclose = reject)",
    put:
      "connection.onclose = e => {\n          lost = e\n          while (queries.length) queries.shift().reject(e)\n" +
      "          reject(e)\n        })",
    why:
      "the connection object serves other callers next, where statements of this transaction would be committed one " +
      "by one",
  },
  {
    file: "index.js",
    from: "q.catch(e => uncaughtError || (uncaughtError = e))",
    find: "c.queue === full",
    put: "if (lost) return q.reject(lost)\n        c.queue === full",
    why: "as above",
  },
  {
    file: "index.js",
    from: "return ending = Promise.race([",
    find: ".then(() => clearTimeout(timer))",
    put: ".then(() => {\n      clearTimeout(timer)\n      clearTimeout(watching)\n      while (queries.length) " +
      "queries.shift().reject(Errors.connection('CONNECTION_ENDED', options, options))\n    })",
    why: "those that waited for a connection which was lost while it ended",
  },
  {
    file: "index.js",
    from: "const defaults = {",
    find: "{",
    put: "{\n    queue_timeout   : 0,\n    answer_timeout  : 0,",
    why: "ms; 0: never. Options of the next ones",
  },
  {
    file: "index.js",
    from: "let ending = false",
    find: "let ending = false",
    put: "let ending = false\n    , watching = null",
    why: "see the next ones",
  },
  {
    file: "index.js",
    from: "function handler(query) {",
    find: "if (open.length)",
    put: "query.asked = performance.now()\n    watch()\n    if (open.length)",
    why: "see the next one",
  },
  {
    file: "index.js",
    from: "function go(c, query)",
    find: "function go(c, query)",
    put: `function watch() {
    if (watching === null && (options.queue_timeout || options.answer_timeout)) watching = setTimeout(look, 500)
  }

  function look() {
    watching = null
    const { queue_timeout, answer_timeout } = options
    const now = performance.now()
    while (queue_timeout && queries.length && now - queries.peek().asked > queue_timeout)
      queries.shift().reject(Errors.connection('QUEUE_TIMEOUT', options))
    answer_timeout && connections.forEach(c => c.loseUnanswered(now - answer_timeout))
    if (queries.length || connecting.length || reserved.length || busy.length || full.length) watch()
  }

  function go(c, query)`,
    why: "a query waited for a connection as long as it took, and for its answer from a server that says nothing",
  },
  {
    file: "queue.js",
    from: "push: (x)",
    find: "push: (x)",
    put: "peek: () => xs[index],\n    push: (x)",
    why: "for the one above",
  },
  {
    file: "connection.js",
    from: "try {\n      q.state = backend",
    find: "try {",
    put: "q.asked = performance.now()\n    try {",
    why: "it was sent now: it may have waited for the connection before",
  },
  {
    file: "connection.js",
    from: "const connection = {",
    find: "{",
    put: "{\n    loseUnanswered(before) { socket && query && query.asked < before && socket.destroy() },",
    why: "used above. All that was sent on it is rejected; whether the server has done it is unknown",
  },
];
