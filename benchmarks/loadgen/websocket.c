#define _GNU_SOURCE
#include "websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char MASK[4] = {0x5a, 0xc3, 0x17, 0x9e};
static const char LEAD[] = "{\"event_id\":\"bench_";
enum { LEAD_LENGTH = sizeof LEAD - 1, MARK_LENGTH = 8 + 1 + 8 + 1 + 16 };

size_t frame_head(unsigned char *out, int opcode, size_t length, bool masked) {
    size_t at = 2;
    unsigned char bit = masked ? 0x80 : 0;
    out[0] = (unsigned char)(0x80 | opcode);
    if (length < 126) {
        out[1] = (unsigned char)(bit | length);
    } else {
        out[1] = bit | 126;
        out[at++] = (unsigned char)(length >> 8);
        out[at++] = (unsigned char)length;
    }
    if (masked) {
        memcpy(out + at, MASK, 4);
        at += 4;
    }
    return at;
}

message message_make(const char *kind, const char *field, size_t size, bool masked) {
    char lead[256];
    int lead_length = snprintf(lead, sizeof lead, "%s%08x_%08x_%016x\",\"type\":\"%s\",\"%s\":\"", LEAD, 0, 0, 0, kind, field);
    size_t filling = size - (size_t)lead_length - 2;
    unsigned char *noise = malloc(filling);
    char *text = malloc(filling * 2 + 8);
    for (size_t i = 0; i < filling; i++) noise[i] = (unsigned char)random();
    EVP_EncodeBlock((unsigned char *)text, noise, (int)filling);
    message made = {.frame = malloc(size + 16), .masked = masked};
    made.header = frame_head(made.frame, 1, size, masked);
    unsigned char *payload = made.frame + made.header;
    memcpy(payload, lead, (size_t)lead_length);
    filling -= filling % 4; // whole quanta of base64, so that it decodes; the rest is spaces after the value
    memcpy(payload + lead_length, text, filling);
    payload[(size_t)lead_length + filling] = '"';
    memset(payload + lead_length + filling + 1, ' ', size - (size_t)lead_length - filling - 1);
    payload[size - 1] = '}';
    made.length = made.header + size;
    for (size_t i = 0; masked && i < size; i++) payload[i] ^= MASK[i & 3];
    free(noise);
    free(text);
    return made;
}

static unsigned char *put_hex(unsigned char *at, uint64_t value, int digits) {
    for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) *at++ = (unsigned char)"0123456789abcdef"[value >> shift & 15];
    return at;
}

void message_stamp(message *m, mark what) {
    unsigned char text[MARK_LENGTH], *at = put_hex(text, what.session, 8);
    *at++ = '_';
    at = put_hex(at, what.number, 8);
    *at++ = '_';
    put_hex(at, what.stamp, 16);
    unsigned char *out = m->frame + m->header + LEAD_LENGTH;
    for (size_t i = 0; i < MARK_LENGTH; i++) out[i] = m->masked ? text[i] ^ MASK[(i + LEAD_LENGTH) & 3] : text[i];
}

static bool get_hex(const unsigned char *at, int digits, uint64_t *value) {
    *value = 0;
    for (; digits--; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0) return false;
        *value = *value << 4 | (uint64_t)digit;
    }
    return true;
}

bool mark_read(const unsigned char *payload, size_t length, const unsigned char *mask, mark *found) {
    unsigned char text[LEAD_LENGTH + MARK_LENGTH];
    uint64_t session, number;
    if (length < sizeof text) return false;
    for (size_t i = 0; i < sizeof text; i++) text[i] = mask ? payload[i] ^ mask[i & 3] : payload[i];
    const unsigned char *at = text + LEAD_LENGTH;
    if (memcmp(text, LEAD, LEAD_LENGTH) || !get_hex(at, 8, &session) || !get_hex(at + 9, 8, &number) ||
        !get_hex(at + 18, 16, &found->stamp))
        return false;
    found->session = (uint32_t)session;
    found->number = (uint32_t)number;
    return true;
}

bool frame_parse(unsigned char *data, size_t length, frame *found) {
    if (length < 2) return false;
    size_t size = data[1] & 0x7f, at = 2;
    if (size == 126) {
        if (length < 4) return false;
        size = (size_t)data[2] << 8 | data[3];
        at = 4;
    } else if (size == 127) {
        if (length < 10) return false;
        size = 0;
        for (int i = 2; i < 10; i++) size = size << 8 | data[i];
        at = 10;
    }
    found->mask = NULL;
    if (data[1] & 0x80) {
        if (length < at + 4) return false;
        found->mask = data + at;
        at += 4;
    }
    if (length - at < size || length < at) return false;
    found->opcode = data[0] & 15;
    found->payload = data + at;
    found->length = size;
    found->whole = at + size;
    return true;
}

size_t upgrade_request(char *out, size_t room, const char *host, int port, uint32_t session) {
    return (size_t)snprintf(out, room,
                            "GET /v1/realtime?model=bench&session=%08x HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer benchmark\r\n\r\n",
                            session, host, port);
}

size_t upgrade_parse(const char *head, size_t length, int64_t *session, char *key, size_t key_room) {
    const char *end = memmem(head, length, "\r\n\r\n", 4);
    if (!end) return 0;
    char text[16384];
    size_t size = (size_t)(end - head) + 4;
    if (size >= sizeof text) return 0;
    memcpy(text, head, size);
    text[size] = 0;
    const char *target = strstr(text, "session=");
    *session = target ? (int64_t)strtoul(target + 8, NULL, 16) : -1;
    const char *field = strcasestr(text, "sec-websocket-key:");
    key[0] = 0;
    if (field) {
        field += 18 + strspn(field + 18, " ");
        snprintf(key, key_room, "%.*s", (int)strcspn(field, "\r"), field);
    }
    return size;
}

size_t upgrade_answer(char *out, size_t room, const char *key) {
    char text[256];
    unsigned char digest[SHA_DIGEST_LENGTH], accept[64];
    int length = snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((unsigned char *)text, (size_t)length, digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    return (size_t)snprintf(out, room,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Accept: %s\r\n\r\n",
                            accept);
}
