/* A message's whole way through the proxy between two plain sockets: received into the ring, on record, sent on;
   or half of it, where OpenSSL receives it or sends it on.

   What `RingWriter.receiver` and a `send` do, in one step: a worker does it tens of thousands of times a second. It waits
   for the next here, too.
   Whatever is not the usual course is told to the caller, who deals with it as ever. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS; Python ignores SIGPIPE anyway */
#endif

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* as time.monotonic_ns() */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Where in the ring there is room to receive to; 0 where there is none, or something has to be put down first. */
static uint64_t room(struct lane *lane)
{
    struct place *place = lane->place;
    uint64_t body = place->next + sizeof(struct record);
    return lane->blocked || body + place->window > place->room_until ? 0 : body;
}

/* Put on record what lies where there was room. */
static void publish(struct lane *lane, size_t length)
{
    struct place *place = lane->place;
    lane->at_ns = now_ns();
    struct record record = { (uint32_t)length, lane->session_no, lane->at_ns, lane->kind };
    memcpy(place->ring + place->next, &record, sizeof record);
    lane->body = place->next + sizeof record;
    place->next = (lane->body + length + 7) & ~(uint64_t)7;
    /* The reader is another process: what the head covers has to be there before the head is. */
    __atomic_store_n(place->head, (uint64_t)place->lap + place->next, __ATOMIC_RELEASE);
}

static int send_on(struct lane *lane, size_t length)
{
    uint8_t *body = lane->place->ring + lane->body;
    lane->carried += length;
    ssize_t sent;
    do
        sent = send(lane->sink, body, length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    lane->error = sent < 0 ? errno : 0;
    int sampled = !--lane->until_sample;
    if (sampled) {
        lane->until_sample = lane->sample_every;
        lane->took_ns = now_ns() - lane->at_ns;
    }
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done == length && !lane->error)
        return sampled ? SAMPLED : CARRIED;
    lane->unsent = body + done;
    lane->unsent_bytes = length - done;
    return UNSENT;
}

/* Receive and record. Gives how many bytes, which lie at `body`; what came instead, negative. */
static int take(struct lane *lane)
{
    uint64_t body = room(lane);
    if (!body)
        return -NO_ROOM;
    ssize_t length;
    do
        length = recv(lane->source, lane->place->ring + body, lane->place->window, 0);
    while (length < 0 && errno == EINTR);
    if (length <= 0) {
        lane->error = length ? errno : 0;
        return -NOTHING;
    }
    publish(lane, (size_t)length);
    return (int)length; /* a window is much smaller than that */
}

/* Record and send on what was put where there was `room`: at least a byte, at most a window. */
static int give(struct lane *lane, size_t length)
{
    publish(lane, length);
    return send_on(lane, length);
}

static int carry(struct lane *lane)
{
    int length = take(lane);
    return length < 0 ? -length : send_on(lane, (size_t)length);
}

/* Wait, and carry what lanes have to carry, until something else is to be done: what they have left undone, of so many
   descriptors as `undone_count`, and whatever else has happened, on so many as the lowest eight bits of what this gives
   (the others: `undone_count`); or a negative errno. */
static int serve(struct serving *serving, int timeout)
{
#ifdef __linux__
    struct epoll_event events[AT_ONCE];
    serving->undone_count = 0;
    for (;;) {
        int count = epoll_wait(serving->epoll, events, AT_ONCE, timeout), ready = 0;
        if (count < 0)
            return errno == EINTR ? 0 : -errno;
        struct place *place = NULL;
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd; /* as Python's `select.epoll` has it */
            struct lane *lane = fd >= 0 && fd < serving->lanes_size ? serving->lanes[fd] : NULL;
            if (!lane || events[i].events != EPOLLIN) {
                serving->ready[ready++] = (uint64_t)events[i].events << 32 | (uint32_t)fd;
                continue;
            }
            place = lane->place;
            int outcome = carry(lane);
            if (outcome != CARRIED)
                serving->undone[serving->undone_count++] = (struct undone){ fd, outcome, events[i].events };
        }
        if (ready || serving->undone_count || timeout == 0)
            return ready | serving->undone_count << 8;
        if (place) /* all was sent: as `RingWriter.settle` */
            __atomic_store_n(place->settled, *place->head, __ATOMIC_RELEASE);
    }
#else
    (void)serving, (void)timeout; /* the proxy runs on Linux; all else of the package does elsewhere too */
    return -ENOSYS;
#endif
}
