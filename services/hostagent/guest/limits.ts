// Limits of the guest channel, from proto/guest/v1/guest.proto. Sizes in bytes.

/** The largest encoded Frame, without checksum and framing. */
export const MAX_FRAME_BYTES = 69_632;
/** The most that one `data` field carries. */
export const MAX_DATA_BYTES = 65_536;
/** What either side may send in each direction of a new stream. */
export const INITIAL_CREDIT_BYTES = 262_144;
/** What the host end speaks. */
export const PROTOCOL_VERSION = 2;

/** Streams of one channel at a time. The guest agent holds 256; the rest is for the host agent's own calls. */
export const MAX_STREAMS = 240;
/** Connections to ports of one guest at a time, beside those: as many as the guest agent holds. */
export const MAX_PORT_STREAMS = 256;
/** What a guest may send ahead on one of them. There may be many whose readers stall. */
export const PORT_WINDOW_BYTES = 131_072;
/** Credit goes back in steps of this size: less would cost a frame per read, more would stall the sender. */
export const CREDIT_STEP_BYTES = 65_536;
/** Flow-controlled data waits while this much is queued for the guest, so that a request never waits long behind it. */
export const OUTBOUND_MARK_BYTES = 262_144;
/** A guest that reads nothing while so much is queued is given up. Data alone never gets here. */
export const OUTBOUND_LIMIT_BYTES = 16 * 1024 * 1024;
/** Entries (and their encoded bytes) of one listing. They are not flow-controlled, so they are capped. */
export const MAX_LISTING_ENTRIES = 200_000;
export const MAX_LISTING_BYTES = 64 * 1024 * 1024;
/** Spans that are taken from one End. */
export const MAX_REPORTED_SPANS = 32;
