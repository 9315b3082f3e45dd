// A chat room on Node.js and `ws`: one process, rooms in a Map, nothing stored. It says
// what ours says. Usage: node node_ws.js PORT
"use strict";
const { WebSocketServer } = require("ws");

const rooms = new Map();

function enter(name, socket) {
  let room = rooms.get(name);
  if (!room) rooms.set(name, (room = { seq: 0, sockets: new Set() }));
  room.sockets.add(socket);
  return room;
}

const server = new WebSocketServer({
  host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 2048,
});

server.on("connection", (socket, request) => {
  const url = new URL(request.url, "http://localhost");
  const name = url.pathname.slice(1);
  const user = url.searchParams.get("user");
  const room = enter(name, socket);
  socket.send(JSON.stringify({
    type: "system", content: "Connected to ChatRoom", roomId: name, timestamp: Date.now(),
  }));
  socket.on("message", (text) => {
    const { type, id, content } = JSON.parse(text);
    if (type !== "chat" || typeof content !== "string") return;
    // Encoded once; as a string, so that it travels as a text frame.
    const event = JSON.stringify({
      type, id, roomId: name, senderId: user, displayName: user, content,
      timestamp: Date.now(), seq: ++room.seq, isNudge: false, isWink: false,
    });
    for (const each of room.sockets) each.send(event);
  });
  socket.on("close", () => {
    room.sockets.delete(socket);
    if (room.sockets.size === 0) rooms.delete(name);
  });
  socket.on("error", () => socket.terminate());
});
