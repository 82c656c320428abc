import type { FrameBody } from "./event_queue.ts";
import { protocolError } from "./protocol_error.ts";
import type { GuestStream } from "./stream.ts";

/** All events of a request, which its rules have bounded. */
export async function collect(stream: GuestStream): Promise<FrameBody[]> {
  const bodies: FrameBody[] = [];
  for (let event = await stream.next(); event; event = await stream.next()) {
    if (event.kind === "body") bodies.push(event.body);
  }
  return bodies;
}

/** What an event can be. */
export type EventCase = NonNullable<FrameBody["case"]>;
type ValueOf<Case extends EventCase> = Extract<FrameBody, { case: Case }>["value"];

/** The content of an event of this kind. @throws TorporError `guest_protocol` for another one. */
export function take<Case extends EventCase>(body: FrameBody, wanted: Case): ValueOf<Case> {
  if (body.case !== wanted) throw protocolError(`unexpected ${body.case}`);
  return body.value as ValueOf<Case>;
}
