import { Duplex } from "node:stream";
import type { Tunnel } from "@torpor/rpc";

/** A tunnel as a stream of node's, for a client that expects a socket. */
export function tunnelDuplex(tunnel: Tunnel, onBytes: () => void): Duplex {
  return new Duplex({
    read() {
      tunnel.read().then((data) => {
        onBytes();
        this.push(data ?? null);
      }, (error) => this.destroy(error));
    },
    write(chunk: Uint8Array, _encoding, done) {
      onBytes();
      // The chunk may be part of a buffer that is used again.
      tunnel.write(chunk.slice()).then(() => done(), done);
    },
    final(done) {
      tunnel.end().then(() => done(), done);
    },
    destroy(error, done) {
      tunnel.close();
      done(error);
    },
  });
}
