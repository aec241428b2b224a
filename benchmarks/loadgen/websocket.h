// Well-formed WebSocket traffic: upgrades, and Realtime messages that carry who sent them, their number and their time.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    unsigned char *frame; // the whole frame, masked where a client sends it
    size_t length;
    size_t header;
    bool masked;
} message;

typedef struct {
    uint32_t session, number;
    uint64_t stamp;
} mark;

// A message of `size` bytes of text. `kind` is an event type whose field `field` holds base64, or plain text.
message message_make(const char *kind, const char *field, size_t size, bool masked);
void message_stamp(message *m, mark what);
// Of a frame's payload; false where there is no mark.
bool mark_read(const unsigned char *payload, size_t length, const unsigned char *mask, mark *found);

typedef struct {
    int opcode;
    unsigned char *payload;
    size_t length, whole; // of the payload, and of the frame
    const unsigned char *mask;
} frame;
// False: not all of it is there.
bool frame_parse(unsigned char *data, size_t length, frame *found);
size_t frame_head(unsigned char *out, int opcode, size_t length, bool masked);

size_t upgrade_request(char *out, size_t room, const char *host, int port, uint32_t session);
// The length of the head, 0 while it is incomplete; `session` from its target, -1 where there is none.
size_t upgrade_parse(const char *head, size_t length, int64_t *session, char *key, size_t key_room);
size_t upgrade_answer(char *out, size_t room, const char *key);
