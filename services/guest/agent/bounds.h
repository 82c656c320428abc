// Bounds on everything that grows with what arrives on the wire. Sizes in bytes.
#ifndef TORPOR_BOUNDS_H
#define TORPOR_BOUNDS_H

enum {
    // From proto/guest/v1/guest.proto.
    MAX_FRAME_BYTES = 69632,
    MAX_DATA_BYTES = 65536,
    INITIAL_CREDIT_BYTES = 262144,
    MAX_ARGV_ENTRIES = 4096,

    MAX_STREAMS = 512,
    // Connections to ports; the rest is for everything else.
    MAX_PORT_STREAMS = 256,
    // What the host may send ahead on each of them: the agent holds it while a program does not read.
    PORT_WINDOW_BYTES = 64 << 10,
    MAX_PROCESSES = 512,
    MAX_FINISHED_PROCESSES = 256,
    // Each worker is a forked child; in a 128 MiB guest more of them would compete with the user's memory.
    MAX_WORKERS = 64,
    MAX_GROUPS = 64,
    MAX_NAME_BYTES = 64,
    MAX_PATH_BYTES = 4096,
    MAX_LIST_DEPTH = 64,
    MAX_SPANS = 8,

    OUTPUT_LOG_BYTES = 1 << 20,
    // A log gets this much whatever the state of the shared budget: it holds one whole read of a pipe.
    OUTPUT_LOG_MINIMUM_BYTES = 128 << 10,
    // A process whose fastest holding reader lags by more is held back (its pipes are not read).
    OUTPUT_HOLD_BYTES = 256 << 10,
    // How long it is held back for a reader that is gone and may come back: a restart of the host's end, and its clients'
    // way back, with room for a busy machine. The rest of the log (768 KiB) is what may have been lost on its way to them.
    OUTPUT_HOLD_ABSENT_MS = 30000,
    // Argument bytes kept for ListProcesses, so that a ProcessInfo always fits a frame.
    PROCESS_INFO_ARGUMENT_BYTES = 32 << 10,
    // Stdin queued in the agent for one process; WriteStdin has no stream credit that would bound it.
    MAX_STDIN_QUEUE_BYTES = 1 << 20,
};

#endif
