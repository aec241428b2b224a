/* A message's whole way through the proxy between two plain sockets: received into the ring, on record, sent on;
   or its way into the ring alone, where OpenSSL sends it on.

   What `RingWriter.receiver` and a `send` do, in one step: a worker does it tens of thousands of times a second.
   Whatever is not the usual course is told to the caller, who deals with it as ever. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS; Python ignores SIGPIPE anyway */
#endif

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* as time.monotonic_ns() */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Receive into the ring, and put it on record. Gives how many bytes, which lie at `body`; else what came instead. */
static int take(struct lane *lane)
{
    struct place *place = lane->place;
    if (place->next + sizeof(struct record) + place->window > place->room_until)
        return -NO_ROOM;
    uint8_t *at = place->ring + place->next;
    lane->body = place->next + sizeof(struct record);
    ssize_t length;
    do
        length = recv(lane->source, at + sizeof(struct record), place->window, 0);
    while (length < 0 && errno == EINTR);
    if (length <= 0) {
        lane->error = length ? errno : 0;
        return -NOTHING;
    }

    lane->at_ns = now_ns();
    struct record record = { (uint32_t)length, lane->session_no, lane->at_ns, lane->kind };
    memcpy(at, &record, sizeof record);
    place->next = (lane->body + (uint64_t)length + 7) & ~(uint64_t)7;
    /* The reader is another process: what the head covers has to be there before the head is. */
    __atomic_store_n(place->head, (uint64_t)place->lap + place->next, __ATOMIC_RELEASE);
    return (int)length; /* a window is much smaller than that */
}

static int carry(struct lane *lane)
{
    int length = take(lane);
    if (length < 0)
        return -length;
    lane->carried += (uint64_t)length;

    uint8_t *body = lane->place->ring + lane->body;
    ssize_t sent;
    do
        sent = send(lane->sink, body, (size_t)length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    lane->error = sent < 0 ? errno : 0;
    int sampled = !--lane->until_sample;
    if (sampled) {
        lane->until_sample = lane->sample_every;
        lane->took_ns = now_ns() - lane->at_ns;
    }
    if (sent == length)
        return sampled ? SAMPLED : CARRIED;
    sent = sent < 0 ? 0 : sent;
    lane->unsent = body + sent;
    lane->unsent_bytes = (size_t)(length - sent);
    return UNSENT;
}
