// The page's own script hears an event: `node … page.mjs EVENT` prints what it shows.

import { World } from "../../gateway/web/world.mjs";

const event = JSON.parse(process.argv[2]);
const world = new World();
const tab = await world.signedIn();
const messenger = new tab.protocol.Messenger(tab.session);
messenger.start();
const { room, told } = tab.join(messenger, event.roomId);
const path = `/api/ws/room/${event.roomId}`;
await world.time.until(() => world.server.socket(path)?.received.length > 0);
world.server.socket(path).say(event);
await world.time.pass(1000);
for (const socket of world.server.sockets) socket.end(1012);
await world.time.pass(30_000);
const messages = told.flatMap(([type, detail]) => (type === "messages" ? detail.messages : []));
console.log(JSON.stringify({ messages, since: world.server.socket(path).since, state: room.state }));
