// What the parts of the web client hand to each other, where it is no frame of the wire.
// For the type checker alone; nothing of it is sent to a browser.

declare namespace Client {
  type App = import("./static/js/main.js").App;
  type Clock = import("./static/js/protocol/clock.js").Clock;
  type Conversation = import("./static/js/conversation.js").Conversation;
  type Desktop = import("./static/js/windows.js").Desktop;
  type Messenger = import("./static/js/protocol.js").Messenger;
  type Room = import("./static/js/protocol/room.js").Room;
  type Session = import("./static/js/protocol/api.js").Session;
  type Store = import("./static/js/store.js").Store;

  // The session.

  /** What the browser keeps of a session, for all tabs. */
  interface Kept {
    sessionId: string;
    expiresAt: number;
    user: Wire.User;
  }

  /** Signed out here or in another tab, over, or followed by somebody else's. */
  type EndReason = "signed-out" | "expired" | "replaced";

  interface SessionEvents {
    /** The id has changed, here or in another tab. */
    renewed: undefined;
    /** Once, when nothing can be done in its name any more. */
    ended: { reason: EndReason };
  }

  // Sockets.

  /** `offline` is waiting, and the browser thinks that there is no network. */
  type State = "connecting" | "open" | "waiting" | "offline" | "closed";

  interface SocketState {
    state: State;
    /** When the next attempt is, by `performance.now()`. */
    retryAt?: number;
    /** What the server said when it would not have us for now. */
    why?: string;
  }

  /** A close code, or the code of a refusal over HTTP: no later attempt can succeed. */
  interface Final {
    code: number | string;
  }

  interface SocketEvents {
    open: undefined;
    frame: Wire.ServerFrame;
    state: SocketState;
    final: Final;
  }

  /** What is asked of a client by a close code: again, later (overload) or never. */
  type Policy = "again" | "later" | "never";

  // Rooms.

  /** What was said and has no echo yet. */
  interface Line {
    frame: Wire.Said;
    /** When it was said, by the server's clock: the order of lines. */
    at: number;
    /** Over a reload too. */
    kept: boolean;
    /** How often it ended unanswered. */
    tries?: number;
    /** Why it failed. */
    failed?: string;
    /** Nothing speaks against its words: it may be said once more as it is. */
    again?: boolean;
  }

  interface RoomEvents {
    /** New ones, in seq order, each exactly once. */
    messages: { messages: Wire.Message[]; live: boolean };
    pending: { line: Line };
    failed: { line: Line };
    delayed: { line: Line; retryAfterMs: number };
    /** It waits no more: it was taken back, or has another id now. */
    dropped: { id: string };
    /** A receipt upgraded it. */
    status: { message: Wire.Message };
    /** The same, as it came. */
    receipt: Wire.DeliveryStatus;
    /** Who is typing now. */
    typing: { names: string[] };
    participants: Wire.Participants;
    system: Wire.System;
    /** Messages in between are no longer kept. */
    gap: undefined;
    /** The room begins anew. */
    rewound: undefined;
    /** A nudge, a wink or something that is no line of the outbox. */
    refused: Wire.Refusal & { kind: Wire.Said["type"] | "other" };
    /** What came before is known, on this socket. */
    settled: undefined;
    state: SocketState;
    final: Final;
  }

  interface MessengerEvents {
    /** Who is online, as it changes. */
    presence: Presence;
    /** How many are online. */
    crowd: Crowd;
    /** Somebody wrote in a direct room, open or not. */
    notification: { message: Wire.Message };
    /** The worst of all sockets. */
    connection: SocketState;
    /** Nothing comes after it. */
    ended: { reason: EndReason };
  }

  /** `whole`: who is not named is offline; else the others are as they were. */
  interface Presence {
    people: Wire.Participant[];
    whole: boolean;
  }

  /** `crowded`: so many that presence tells of some alone. */
  interface Crowd {
    online: number;
    crowded: boolean;
  }

  // What the page knows.

  interface StoreEvents {
    people: undefined;
    rooms: undefined;
    me: undefined;
    unread: { roomId: string; count: number };
    /** Somebody came online. */
    came: { person: Wire.User };
  }

  // The page.

  type Value = string | boolean | undefined;
  type Handlers = {
    [Event in keyof HTMLElementEventMap as `on${Event}`]?: (event: HTMLElementEventMap[Event]) => void;
  };

  /** What `el` makes attributes and listeners of; what elements have, as HTML spells it. */
  interface Attributes extends Handlers {
    [data: `data-${string}`]: Value;
    [aria: `aria-${string}`]: Value;
    autocomplete?: Value;
    checked?: Value;
    class?: Value;
    datetime?: Value;
    dir?: Value;
    disabled?: Value;
    enterkeyhint?: Value;
    for?: Value;
    height?: Value;
    hidden?: Value;
    href?: Value;
    id?: Value;
    maxlength?: Value;
    name?: Value;
    novalidate?: Value;
    open?: Value;
    placeholder?: Value;
    rel?: Value;
    role?: Value;
    rows?: Value;
    spellcheck?: Value;
    src?: Value;
    tabindex?: Value;
    target?: Value;
    title?: Value;
    type?: Value;
    value?: Value;
    width?: Value;
  }

  /** What is falsy is left out. */
  type Child = Node | string | false | undefined;

  /** A sound of `sounds.js`. */
  type Tune = "message" | "online" | "signIn" | "nudge" | "wink";
  type Note = [hertz: number, startS: number, lengthS: number, shape: OscillatorType, loudness: number];

  /** Something from a person, for somebody who is looking elsewhere. */
  interface News {
    title: string;
    /** Plain. */
    text: string;
    /** A drawing's id. */
    icon: string;
    /** News with the same one replace each other. */
    tag: string;
    sound?: Tune;
    /** It was clicked. */
    open: () => void;
  }

  interface Place {
    x: number;
    y: number;
    width: number;
    height: number;
  }

  interface WindowOptions {
    id: string;
    title: string;
    icon: string;
    content: Node;
    /** Without it the window cannot be closed. */
    onclose?: () => void;
    onactive?: () => void;
  }

  interface ConversationOptions {
    active?: boolean;
    at?: Place;
  }

  interface ContactActions {
    open(roomId: string): void;
    presence(status: Wire.Status): void;
    rename(displayName: string): void;
    /** These people's rows can be seen. */
    view(userIds: string[]): void;
    signOut(): void;
  }

  /** A person or a room in the list of contacts. */
  type Contact = Partial<Wire.Participant & Pick<Wire.RoomInfo, "name">>;

  interface ComposerActions {
    /** Says whether it will be said. */
    say(text: string): boolean;
    nudge(): void;
    wink(winkId: string): void;
    typing(is: boolean): void;
    draft(text: string): void;
  }

  interface TranscriptActions {
    /** Loads the page before. */
    older(): Promise<void>;
    // For lines that failed.
    retype(frame: Extract<Wire.Said, { type: "chat" }>): void;
    discard(id: string): void;
    retry(id: string): void;
  }

  /** What a line of the transcript shows: a message, or what is still on its way. */
  type Shown = Pick<Wire.Message, "type" | "id" | "senderId" | "displayName" | "content" | "timestamp"> &
    Partial<Wire.Message>;

  type Tick = "sending" | "sent" | Wire.Receipt;

  /** A line's element, with what the next one's look depends on. */
  interface LineElement extends HTMLElement {
    timestamp: number;
    sender: string;
    who: string;
    kind: Wire.Message["type"];
  }

  /** The answer to the question for people: `value` is empty until it is there. */
  interface Token {
    value: string;
    /** A token is good for one attempt. */
    renew: () => void;
  }

  // Winks.

  type Chance = () => number;
  /** Seconds and pixels. */
  type Scene = (g: CanvasRenderingContext2D, t: number, w: number, h: number) => void;
  type Wink = (chance: Chance) => Scene;
}
