// The wire contract (docs/wire.md) as the web client reads and writes it: every frame,
// and what each call over HTTP answers with. For the type checker alone; nothing of it is
// sent to a browser.

declare namespace Wire {
  type Status = "online" | "busy" | "away" | "offline";
  type Receipt = "delivered" | "read";

  /** What is told of somebody besides who they are. */
  interface Words {
    displayName: string;
    personalMessage?: string;
    avatarId?: string;
  }

  /** Somebody in a room or on presence; a bot in a room has no picture there. */
  interface Participant extends Words {
    id: string;
    status: Status;
  }

  /** Somebody of the directory. */
  interface User extends Participant {
    email: string;
    avatarId: string;
    isAiBot: boolean;
  }

  interface RoomInfo {
    id: string;
    name: string;
    type: "group" | "direct";
    participantIds: string[];
    unreadCount: number;
  }

  // To the server. Everything that is said has an id: only so may it be sent again.

  type Said =
    | { type: "chat"; content: string; id: string }
    | { type: "nudge"; id: string }
    | { type: "wink"; winkId: string; id: string };

  type ClientFrame =
    | Said
    | { type: "typing"; isTyping: boolean }
    | { type: "ack"; ackId: string; status: Receipt }
    | { type: "presence_update"; status: Status }
    | { type: "watch" | "unwatch"; userIds: string[] }
    | { type: "ping"; t: number };

  // From the server.

  /** An event, as the room's log holds it. One of a type that is not known here has a
   * `content` to be shown, if it is to be shown. */
  interface Message {
    type: string;
    id: string;
    roomId: string;
    senderId: string;
    displayName: string;
    content: string;
    timestamp: number;
    seq: number;
    isNudge: boolean;
    isWink: boolean;
    winkId?: string;
    status?: Receipt;
    playAt?: number;
    playbackKey?: string;
    /** Of a `lost`: the numbers that storage has lost. */
    from?: number;
    to?: number;
    /** Since which loss its number counts; absent: nothing was ever lost. */
    era?: number;
  }

  interface History {
    type: "history";
    messages: Message[];
    roomId: string;
    lastSeq: number;
    gap: boolean;
    era?: number;
  }

  interface Participants {
    type: "participants";
    roomId: string;
    participants: Participant[];
    /** Of a crowd: how many are in. */
    total?: number;
  }

  interface Typing {
    type: "typing";
    roomId: string;
    senderId: string;
    displayName: string;
    isTyping: boolean;
  }

  interface DeliveryStatus {
    type: "delivery_status";
    roomId: string;
    ackId: string;
    status: Receipt;
    senderId: string;
    timestamp: number;
  }

  interface System {
    type: "system";
    content: string;
    timestamp: number;
    roomId?: string;
  }

  interface Refusal {
    type: "error";
    code: string;
    message: string;
    retryable: boolean;
    retryAfterMs?: number;
    id?: string;
  }

  interface PresenceJoin extends Words {
    type: "presence_join";
    userId: string;
  }

  interface PresenceUpdate extends Words {
    type: "presence_update";
    userId: string;
    status: Status;
  }

  /** `watched`: in a crowd, of some alone. */
  interface PresenceSync {
    type: "presence_full_sync";
    participants: Participant[];
    online: number;
    scope: "all" | "watched";
    partial?: boolean;
  }

  /** An event has a `seq`, the others are told apart by `type`. */
  type ServerFrame =
    | Message
    | History
    | Participants
    | Typing
    | DeliveryStatus
    | System
    | Refusal
    | PresenceJoin
    | PresenceUpdate
    | PresenceSync
    | { type: "message_notification"; message: Message }
    | { type: "session_expiring"; expiresAt: number }
    | { type: "pong"; timestamp: number; t?: number };

  // Over HTTP.

  interface MessagePage {
    messages: Message[];
    nextBefore?: number;
  }

  /** The `data` of the envelope, by method and path. */
  interface Answers {
    "GET /api/auth/accounts": User[];
    "GET /api/config": { TURNSTILE_SITE_KEY: string };
    "GET /api/rooms": RoomInfo[];
    "GET /api/users": User[];
    "POST /api/auth/login": { sessionId: string; user: User; expiresAt: number };
    "POST /api/auth/logout": { success: true };
    "POST /api/auth/refresh": { sessionId: string; expiresAt: number };
    "POST /api/auth/ticket": { ticket: string; expiresAt: number };
    "POST /api/presence": { status: Status; displayName: string };
    [page: `GET /api/rooms/${string}/messages?${string}`]: MessagePage;
  }

  type Method = "GET" | "POST";
  /** A path that is no key of `Answers` answers with nothing that could be used. */
  type Answer<M extends Method, Path extends string> =
    `${M} ${Path}` extends keyof Answers ? Answers[`${M} ${Path}`] : never;
  type Call = <M extends Method, Path extends string>(
    method: M,
    path: Path,
    options?: { body?: object; sessionId?: string },
  ) => Promise<Answer<M, Path>>;
  type SessionCall = <M extends Method, Path extends string>(
    method: M,
    path: Path,
    body?: object,
  ) => Promise<Answer<M, Path>>;
}
