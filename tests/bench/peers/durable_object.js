// A chat room as a workerd Durable Object with hibernatable WebSockets. It says what
// ours says and keeps nothing, unless the
// binding STORED is set: then each message is in the object's SQLite before anyone sees
// it, because workerd's output gate holds what is sent while a write is pending.
import { DurableObject } from "cloudflare:workers";

export class Room extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.seq = 0;
    this.sql = env.STORED ? ctx.storage.sql : null;
    if (this.sql) {
      this.sql.exec("CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, event TEXT)");
      this.seq = this.sql.exec("SELECT coalesce(max(seq), 0) AS top FROM log").one().top;
    }
  }

  async fetch(request) {
    const url = new URL(request.url);
    const who = { room: url.pathname.slice(1), user: url.searchParams.get("user") };
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    server.serializeAttachment(who);
    server.send(JSON.stringify({
      type: "system", content: "Connected to ChatRoom", roomId: who.room, timestamp: Date.now(),
    }));
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket, text) {
    const { room, user } = socket.deserializeAttachment();
    const { type, id, content } = JSON.parse(text);
    if (type !== "chat" || typeof content !== "string") return;
    const seq = ++this.seq;
    const event = JSON.stringify({
      type, id, roomId: room, senderId: user, displayName: user, content,
      timestamp: Date.now(), seq, isNudge: false, isWink: false,
    });
    if (this.sql) this.sql.exec("INSERT INTO log VALUES (?, ?)", seq, event);
    for (const each of this.ctx.getWebSockets()) {
      try { each.send(event); } catch { /* it is closing */ }
    }
  }

  webSocketClose(socket, code) { try { socket.close(code); } catch { /* closed already */ } }
}

export default {
  fetch(request, env) {
    const room = new URL(request.url).pathname;
    return env.ROOM.get(env.ROOM.idFromName(room)).fetch(request);
  },
};
