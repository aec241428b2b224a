// The load side of the benchmarks: clients and the upstream they talk to, in one thread, so that one clock times both.
//
//   clients ──► the proxy under test (or, directly) ──► upstream, plain and TLS
//
// Every message carries its session, its number and when it was made; the other end checks the number and takes the
// time. A message that cannot be sent at once waits here with its time running. Prints one JSON object a line:
// {"phase": "ready"}, "begin", "end", then the result.
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "net.h"
#include "websocket.h"

enum mode { PINGPONG, VOICE, FLOOD_UP, FLOOD_DOWN, IDLE };
static const char *const MODES[] = {"pingpong", "voice", "flood-up", "flood-down", "idle"};

enum { SCRATCH = 256 << 10, FLOOD_BYTES = 64 << 10, MOST_WAITING = 1 << 20, HANDSHAKES = 64, DELTA_SIZES = 5 };
static const uint64_t SECOND = 1000000000ull, CLIENT_PERIOD = 20000000ull, BURST_PERIOD = 182000000ull;

typedef struct {
    uint32_t sent, received, misordered;
    uint64_t received_bytes;
} tally;

typedef struct session {
    uint32_t id, slot;
    conn *client, *server;
    tally up, down;
    bool opened, ready, broken; // opened: it once was; ready: it is, at both ends
    uint64_t ends_at;
} session;

static struct {
    enum mode mode;
    int port, tls_port, target_port, sessions;
    const char *certificate, *key, *record;
    bool target_tls, reconnect;
    double warmup, seconds, drain, churn;
} options = {.warmup = 1, .seconds = 5, .drain = 5, .sessions = 1};

static session **sessions, **slots; // all there ever were; the one each place has now
static uint32_t session_count;
static uint64_t *retry_at;
static int handshakes, listeners[2];
static message client_message, flood_message, deltas[DELTA_SIZES], transcript;
static histogram latency_up, latency_down, lateness;
static uint64_t window_begin, window_end, skipped, failed;
static bool generating;
static conn *graveyard[8192];
static int graves;
static unsigned char scratch[SCRATCH + (1 << 17)];

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * SECOND + (uint64_t)at.tv_nsec;
}

static bool in_window(uint64_t at) { return at >= window_begin && window_begin && (!window_end || at < window_end); }

static void bury(conn *c) {
    if (c->dead) return;
    c->dead = true;
    session *s = c->session;
    if (s) {
        if (!c->server && s->client == c) {
            s->client = NULL;
            if (!c->closing) s->broken = s->opened;
            if (!s->opened) {
                handshakes--;
                failed++;
            }
            if (slots[s->slot] == s && (options.reconnect || options.churn > 0)) {
                slots[s->slot] = NULL;
                retry_at[s->slot] = now_ns() + (c->closing ? 0 : SECOND / 5);
            }
        }
        if (c->server && s->server == c) s->server = NULL;
        s->ready = s->ready && s->client && s->server;
    }
    if (graves < (int)(sizeof graveyard / sizeof *graveyard)) graveyard[graves++] = c;
}

static void send_message(conn *c, message *m, uint64_t stamp) {
    session *s = c->session;
    tally *way = c->server ? &s->down : &s->up;
    if (net_pending(c) > MOST_WAITING) {
        skipped++;
        return;
    }
    message_stamp(m, (mark){s->id, way->sent++, stamp});
    if (!net_write(c, m->frame, m->length)) bury(c);
}

static void flood(conn *c) {
    static unsigned char batch[FLOOD_BYTES];
    session *s = c->session;
    message *m = c->server ? &flood_message : &client_message;
    tally *way = c->server ? &s->down : &s->up;
    size_t length = 0;
    uint64_t stamp = now_ns();
    for (; length + m->length <= sizeof batch; length += m->length) {
        message_stamp(m, (mark){s->id, way->sent++, stamp});
        memcpy(batch + length, m->frame, m->length);
    }
    if (!net_write(c, batch, length)) bury(c);
}

static void send_close(conn *c) {
    static const unsigned char normal[] = {0x03, 0xe8};
    unsigned char data[16];
    size_t at = frame_head(data, 8, 2, !c->server);
    for (size_t i = 0; i < 2; i++) data[at + i] = c->server ? normal[i] : normal[i] ^ data[at - 4 + i];
    c->closing = true;
    c->always_out = false;
    if (!net_write(c, data, at + 2)) bury(c);
}

static void on_mark(conn *c, mark what, size_t bytes, uint64_t now) {
    session *s = c->session;
    tally *way = c->server ? &s->up : &s->down;
    if (what.session != s->id || what.number != way->received) way->misordered++;
    way->received++;
    way->received_bytes += bytes;
    if (options.mode != FLOOD_UP && options.mode != FLOOD_DOWN && in_window(what.stamp))
        histogram_add(c->server ? &latency_up : &latency_down, now - what.stamp);
}

static void echo(conn *c, const frame *f) {
    unsigned char out[4096];
    if (f->length > sizeof out - 16) return;
    size_t at = frame_head(out, 1, f->length, false);
    for (size_t i = 0; i < f->length; i++) out[at + i] = f->mask ? f->payload[i] ^ f->mask[i & 3] : f->payload[i];
    c->session->down.sent++;
    if (!net_write(c, out, at + f->length)) bury(c);
}

static void on_frame(conn *c, const frame *f, uint64_t now) {
    mark what;
    if (f->opcode == 8) {
        if (!c->closing) send_close(c);
        if (c->server) bury(c);
    } else if (f->opcode <= 2 && mark_read(f->payload, f->length, f->mask, &what)) {
        on_mark(c, what, f->whole, now);
        if (options.mode != PINGPONG && options.mode != IDLE) return;
        if (c->server)
            echo(c, f);
        else if (options.mode == PINGPONG && generating)
            send_message(c, &client_message, now_ns());
    }
}

// One end has its upgrade. A relay may accept the client before it has the upstream.
static void begin_session(session *s) {
    if (!s->client || !s->client->open || !s->server) return;
    s->opened = s->ready = true;
    handshakes--;
    if (options.mode == IDLE) send_message(s->client, &client_message, now_ns());
    if (options.mode == FLOOD_UP || options.mode == FLOOD_DOWN) {
        conn *source = options.mode == FLOOD_UP ? s->client : s->server;
        source->always_out = generating;
        net_arm(source);
    }
}

// Bytes of the head, 0 for more to come.
static size_t on_head(conn *c, const unsigned char *data, size_t length) {
    int64_t id;
    char key[128], answer[512];
    size_t size = upgrade_parse((const char *)data, length, &id, key, sizeof key);
    if (!size) return 0;
    if (c->server) {
        if (id < 0 || id >= session_count) {
            bury(c);
            return 0;
        }
        c->session = sessions[id];
        c->session->server = c;
        c->open = true;
        if (!net_write(c, answer, upgrade_answer(answer, sizeof answer, key)))
            bury(c);
        else
            begin_session(c->session);
    } else if (strncmp((const char *)data, "HTTP/1.1 101", 12)) {
        bury(c);
        return 0;
    } else {
        c->open = true;
        begin_session(c->session);
    }
    return size;
}

static void on_readable(conn *c) {
    if (c->rest) memcpy(scratch, c->rest, c->rest_length);
    ssize_t got = net_read(c, scratch + c->rest_length, SCRATCH);
    if (got == 0) bury(c);
    if (got <= 0) return;
    size_t length = c->rest_length + (size_t)got, used = 0;
    uint64_t now = now_ns();
    if (!c->open) used = on_head(c, scratch, length);
    frame f;
    while (c->open && !c->dead && frame_parse(scratch + used, length - used, &f)) {
        on_frame(c, &f, now);
        used += f.whole;
    }
    if (c->dead) return;
    c->rest_length = length - used;
    if (c->rest_length) {
        c->rest = realloc(c->rest, c->rest_length);
        memcpy(c->rest, scratch + used, c->rest_length);
    } else {
        free(c->rest);
        c->rest = NULL;
    }
}

static void on_event(conn *c, uint32_t mask) {
    if (c->dead) return;
    if (net_pending(c) && !net_flush(c)) {
        bury(c);
        return;
    }
    if (mask & EPOLLOUT && c->always_out && c->open && !net_pending(c)) flood(c);
    if (mask & ~(uint32_t)EPOLLOUT && !c->dead) on_readable(c);
}

static void open_session(uint32_t slot) {
    char request[1024];
    int port = options.target_port;
    conn *c = net_connect("127.0.0.1", port, options.target_tls);
    if (!c) {
        failed++;
        retry_at[slot] = now_ns() + SECOND / 5;
        return;
    }
    session *s = calloc(1, sizeof *s);
    s->id = session_count;
    s->slot = slot;
    s->client = c;
    if (options.churn > 0) s->ends_at = now_ns() + (uint64_t)(options.churn * (.5 + drand48()) * (double)SECOND);
    sessions = realloc(sessions, (session_count + 1) * sizeof *sessions);
    sessions[session_count++] = slots[slot] = s;
    c->session = s;
    handshakes++;
    if (!net_write(c, request, upgrade_request(request, sizeof request, "127.0.0.1", port, s->id))) bury(c);
}

// The places whose turn came by `now`, each once a period, evenly spread over it.
static uint64_t take_turns(uint64_t start, uint64_t *turn, uint64_t period, uint64_t now, void (*act)(session *, uint64_t, uint64_t)) {
    uint64_t many = (uint64_t)options.sessions;
    for (;; ++*turn) {
        uint64_t due = start + *turn / many * period + *turn % many * period / many;
        if (due > now) return due;
        session *s = slots[*turn % many];
        if (s && s->ready && !s->client->closing) act(s, due, *turn / many);
    }
}

static void speak(session *s, uint64_t due, uint64_t turn) {
    (void)turn;
    uint64_t now = now_ns();
    if (in_window(now)) histogram_add(&lateness, now - due);
    if (s->ends_at && now > s->ends_at)
        send_close(s->client);
    else
        send_message(s->client, &client_message, now);
}

static void answer(session *s, uint64_t due, uint64_t turn) {
    (void)due;
    send_message(s->server, &deltas[(turn + s->id) % DELTA_SIZES], now_ns());
    if (s->server) send_message(s->server, &transcript, now_ns());
}

static void poll_once(uint64_t until) {
    struct epoll_event events[512];
    uint64_t now = now_ns();
    uint64_t wait = until > now ? until - now : 0;
    struct timespec timeout = {(time_t)(wait / SECOND), (long)(wait % SECOND)};
    int count = epoll_pwait2(poller, events, 512, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &listeners[0] || events[i].data.ptr == &listeners[1]) {
            int *listener = events[i].data.ptr;
            while (net_accept(*listener, listener == &listeners[1])) {}
        } else {
            on_event(events[i].data.ptr, events[i].events);
        }
    }
    while (graves) net_free(graveyard[--graves]);
}

static bool keep_open(void) {
    bool whole = true;
    for (uint32_t slot = 0; slot < (uint32_t)options.sessions; slot++) {
        session *s = slots[slot];
        whole = whole && s && s->ready;
        if (!s && handshakes < HANDSHAKES && retry_at[slot] <= now_ns()) open_session(slot);
    }
    return whole;
}

static void say(const char *phase) {
    printf("{\"phase\":\"%s\"}\n", phase);
    fflush(stdout);
}

static tally total(bool up, uint64_t *live_missing) {
    tally sum = {0};
    for (uint32_t id = 0; id < session_count; id++) {
        session *s = sessions[id];
        const tally *way = up ? &s->up : &s->down;
        sum.sent += way->sent;
        sum.received += way->received;
        sum.misordered += way->misordered;
        sum.received_bytes += way->received_bytes;
        if (s->ready && live_missing) *live_missing += way->sent - way->received;
    }
    return sum;
}

static void run_until(uint64_t end) {
    static uint64_t speaking, answering, start, checked;
    bool voice = options.mode == VOICE;
    for (uint64_t now; (now = now_ns()) < end;) {
        uint64_t next = end;
        if (generating && voice) {
            if (!start) start = now;
            uint64_t due = take_turns(start, &speaking, CLIENT_PERIOD, now, speak);
            if (due < next) next = due;
            due = take_turns(start, &answering, BURST_PERIOD, now, answer);
            if (due < next) next = due;
        }
        if ((options.reconnect || options.churn > 0) && generating && now > checked + SECOND / 20) {
            keep_open();
            checked = now;
        }
        poll_once(next < now + SECOND / 10 ? next : now + SECOND / 10);
    }
}

static void connect_all(void) {
    uint64_t deadline = now_ns() + 60 * SECOND;
    while (!keep_open()) {
        if (now_ns() > deadline || (failed && !options.reconnect)) {
            fprintf(stderr, "sessions cannot be opened: %lu failed, %u of %d tried\n", failed, session_count, options.sessions);
            exit(3);
        }
        poll_once(now_ns() + SECOND / 100);
    }
}

static void start_generating(void) {
    generating = true;
    for (uint32_t slot = 0; slot < (uint32_t)options.sessions; slot++) {
        session *s = slots[slot];
        if (options.mode == PINGPONG) send_message(s->client, &client_message, now_ns());
        if (options.mode == FLOOD_UP || options.mode == FLOOD_DOWN) {
            conn *source = options.mode == FLOOD_UP ? s->client : s->server;
            source->always_out = true;
            net_arm(source);
        }
    }
}

static void wind_up(void) {
    generating = false;
    for (uint32_t id = 0; id < session_count; id++) {
        if (sessions[id]->client) sessions[id]->client->always_out = false;
        if (sessions[id]->server) sessions[id]->server->always_out = false;
    }
    uint64_t deadline = now_ns() + (uint64_t)(options.drain * (double)SECOND), missing = 1;
    while (missing && now_ns() < deadline) {
        run_until(now_ns() + SECOND / 50);
        missing = 0;
        total(true, &missing);
        total(false, &missing);
    }
}

static void close_all(void) {
    options.reconnect = false;
    options.churn = 0;
    for (uint32_t id = 0; id < session_count; id++)
        if (sessions[id]->client && sessions[id]->client->open && !sessions[id]->client->closing) send_close(sessions[id]->client);
    uint64_t deadline = now_ns() + 3 * SECOND;
    bool open = true;
    while (open && now_ns() < deadline) {
        run_until(now_ns() + SECOND / 50);
        open = false;
        for (uint32_t id = 0; id < session_count; id++) open = open || sessions[id]->client;
    }
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void print_tally(const char *name, tally all, uint64_t window_messages, uint64_t window_bytes) {
    printf("\"%s\":{\"sent\":%u,\"received\":%u,\"misordered\":%u,\"window_messages\":%lu,\"window_bytes\":%lu},", name, all.sent,
           all.received, all.misordered, window_messages, window_bytes);
}

static void write_record(void) {
    FILE *out = fopen(options.record, "w");
    if (!out) return;
    fputs("session,sent_up,received_up,sent_down,received_down\n", out);
    for (uint32_t id = 0; id < session_count; id++) {
        session *s = sessions[id];
        fprintf(out, "%u,%u,%u,%u,%u\n", id, s->up.sent, s->up.received, s->down.sent, s->down.received);
    }
    fclose(out);
}

static void make_messages(void) {
    srandom(1);
    srand48(1);
    client_message = message_make("input_audio_buffer.append", "audio", options.mode == PINGPONG ? 200 : 1300, true);
    flood_message = message_make("response.output_audio.delta", "delta", 8192, false);
    transcript = message_make("response.output_audio_transcript.delta", "delta", 250, false);
    for (size_t i = 0; i < DELTA_SIZES; i++)
        deltas[i] = message_make("response.output_audio.delta", "delta", 4096 + i * 1024, false);
}

static void read_options(int count, char **words) {
    static const struct option known[] = {
        {"mode", 1, 0, 'm'}, {"port", 1, 0, 'p'}, {"tls-port", 1, 0, 'P'}, {"certificate", 1, 0, 'c'}, {"key", 1, 0, 'k'},
        {"target-port", 1, 0, 't'}, {"target-tls", 0, 0, 'T'}, {"sessions", 1, 0, 'n'}, {"warmup", 1, 0, 'w'},
        {"seconds", 1, 0, 's'}, {"drain", 1, 0, 'd'}, {"churn", 1, 0, 'C'}, {"reconnect", 0, 0, 'r'}, {"record", 1, 0, 'R'}, {0}};
    for (int found; (found = getopt_long(count, words, "", known, NULL)) != -1;) {
        switch (found) {
        case 'm':
            while (options.mode <= IDLE && strcmp(MODES[options.mode], optarg)) options.mode++;
            break;
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.tls_port = atoi(optarg); break;
        case 'c': options.certificate = optarg; break;
        case 'k': options.key = optarg; break;
        case 't': options.target_port = atoi(optarg); break;
        case 'T': options.target_tls = true; break;
        case 'n': options.sessions = atoi(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'd': options.drain = atof(optarg); break;
        case 'C': options.churn = atof(optarg); break;
        case 'r': options.reconnect = true; break;
        case 'R': options.record = optarg; break;
        default: exit(2);
        }
    }
    if (options.mode > IDLE || options.sessions < 1 || !options.port || !options.target_port || !options.certificate) {
        fprintf(stderr, "options are missing or make no sense\n");
        exit(2);
    }
}

int main(int count, char **words) {
    read_options(count, words);
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)(options.warmup + options.seconds + options.drain) + 120);
    net_start(options.certificate, options.key);
    make_messages();
    slots = calloc((size_t)options.sessions, sizeof *slots);
    retry_at = calloc((size_t)options.sessions, sizeof *retry_at);
    for (int i = 0; i < 2; i++) {
        listeners[i] = net_listen(i ? options.tls_port : options.port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, listeners[i], &event);
    }
    connect_all();
    say("ready");
    start_generating();
    run_until(now_ns() + (uint64_t)(options.warmup * (double)SECOND));
    tally up_before = total(true, NULL), down_before = total(false, NULL);
    double cpu = cpu_seconds();
    window_begin = now_ns();
    say("begin");
    run_until(window_begin + (uint64_t)(options.seconds * (double)SECOND));
    window_end = now_ns();
    say("end");
    cpu = cpu_seconds() - cpu;
    tally up_after = total(true, NULL), down_after = total(false, NULL);
    wind_up();
    close_all();
    uint32_t broken = 0;
    for (uint32_t id = 0; id < session_count; id++) broken += sessions[id]->broken;
    printf("{\"sessions\":%u,\"broken\":%u,\"failed\":%lu,\"skipped\":%lu,\"window_seconds\":%.6f,\"load_cpu_seconds\":%.6f,",
           session_count, broken, failed, skipped, (double)(window_end - window_begin) / (double)SECOND, cpu);
    print_tally("up", total(true, NULL), up_after.received - up_before.received, up_after.received_bytes - up_before.received_bytes);
    print_tally("down", total(false, NULL), down_after.received - down_before.received,
                down_after.received_bytes - down_before.received_bytes);
    histogram_print("latency_up", &latency_up);
    printf(",");
    histogram_print("latency_down", &latency_down);
    printf(",");
    histogram_print("lateness", &lateness);
    static histogram both;
    both = latency_up;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) both.counts[i] += latency_down.counts[i];
    both.total += latency_down.total;
    if (latency_down.largest > both.largest) both.largest = latency_down.largest;
    printf(",");
    histogram_print("latency", &both);
    printf("}\n");
    if (options.record) write_record();
    return 0;
}
