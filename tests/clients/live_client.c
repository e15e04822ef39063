/* A live client with nothing but the C library: logs on, subscribes, and walks the record headers.
 *
 * usage: live_client HOST PORT KEY DATASET SCHEMA STYPE_IN SYMBOLS RECORDS
 * Prints one JSON line. Exit codes: 0 as many records of data as asked for; 3 refused at the logon; 4 an ErrorMsg.
 */
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RTYPE_ERROR = 0x15, RTYPE_SYMBOL_MAPPING = 0x16, RTYPE_SYSTEM = 0x17 };

static int peer;
static unsigned char buffer[1 << 16];
static size_t begin, end;
static long records, bytes;
static int version;

/* --- SHA-256, FIPS 180-4 --- */

static uint32_t rotated(uint32_t word, int by) { return word >> by | word << (32 - by); }

/* The first 32 bits of the fractional part of a root of the n-th prime, as the standard has its constants. */
static uint32_t fraction(int prime, int cube) {
    unsigned __int128 low = 0, high = (unsigned __int128)1 << 36;
    while (high - low > 1) { /* the largest x with x^k <= prime * 2^(32 k) */
        unsigned __int128 x = (low + high) / 2;
        unsigned __int128 wanted = (unsigned __int128)prime << 64;
        int fits = cube ? x * x <= ((unsigned __int128)prime << 96) / x : x * x <= wanted;
        if (fits) low = x; else high = x;
    }
    return (uint32_t)low;
}

static void next_block(uint32_t state[8], const uint32_t constants[64], const unsigned char *block) {
    uint32_t w[64], s[8];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | block[4 * t + 1] << 16 | block[4 * t + 2] << 8 | block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10) + w[t - 7]
             + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[t - 16];
    }
    memcpy(s, state, sizeof s);
    for (int t = 0; t < 64; t++) {
        uint32_t one = s[7] + (rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25))
                     + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[t] + w[t];
        uint32_t two = (rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22))
                     + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void sha256_hex(const char *text, char hex[65]) {
    uint32_t state[8], constants[64];
    for (int prime = 2, n = 0; n < 64; prime++) {
        int divisor = 2;
        while (divisor * divisor <= prime && prime % divisor) divisor++;
        if (divisor * divisor <= prime) continue;
        if (n < 8) state[n] = fraction(prime, 0);
        constants[n++] = fraction(prime, 1);
    }
    unsigned char padded[512] = {0};
    size_t length = strlen(text), size = (length + 9 + 63) / 64 * 64;
    if (size > sizeof padded) exit(64);
    memcpy(padded, text, length);
    padded[length] = 0x80;
    for (int i = 0; i < 8; i++) padded[size - 1 - i] = (unsigned char)((uint64_t)length * 8 >> 8 * i);
    for (size_t at = 0; at < size; at += 64) next_block(state, constants, padded + at);
    for (int i = 0; i < 8; i++) sprintf(hex + 8 * i, "%08x", state[i]);
}

/* --- the connection --- */

static void finish(int code, const char *name, const char *said) {
    printf("{\"records\": %ld, \"bytes\": %ld, \"version\": %d", records, bytes, version);
    if (name) {
        printf(", \"%s\": \"", name);
        for (; *said; said++) putchar(*said == '"' || *said == '\\' || *said < ' ' ? '\'' : *said);
        putchar('"');
    }
    puts("}");
    exit(code);
}

/* At least so many bytes at buffer + begin. */
static unsigned char *need(size_t size) {
    if (size > sizeof buffer) finish(6, "error", "too long");
    if (begin + size > sizeof buffer) {
        memmove(buffer, buffer + begin, end - begin);
        end -= begin;
        begin = 0;
    }
    while (end - begin < size) {
        ssize_t got = read(peer, buffer + end, sizeof buffer - end);
        if (got <= 0) finish(5, "error", "closed");
        end += (size_t)got;
    }
    return buffer + begin;
}

static void take_line(char *line, size_t size) {
    size_t length = 0;
    for (;;) {
        unsigned char letter = *need(1);
        begin++;
        if (letter == '\n') break;
        if (length + 1 < size) line[length++] = (char)letter;
    }
    line[length] = 0;
}

static void say(const char *line) {
    for (size_t left = strlen(line); left;) {
        ssize_t sent = write(peer, line, left);
        if (sent <= 0) finish(6, "error", "cannot write");
        line += sent;
        left -= (size_t)sent;
    }
}

static void log_on(const char *key, const char *dataset) {
    char line[4096], text[512], hex[65], answer[1024];
    take_line(line, sizeof line); /* lsg_version=... */
    take_line(line, sizeof line);
    if (strncmp(line, "cram=", 5) || strlen(key) < 5) finish(6, "error", "no challenge");
    snprintf(text, sizeof text, "%.200s|%.200s", line + 5, key);
    sha256_hex(text, hex);
    snprintf(answer, sizeof answer, "auth=%s-%s|dataset=%s|encoding=dbn|ts_out=0|client=plain C\n", hex,
             key + strlen(key) - 5, dataset);
    say(answer);
    take_line(line, sizeof line);
    if (strncmp(line, "success=1", 9)) {
        char *reason = strstr(line, "error=");
        finish(3, "refused", reason ? reason + 6 : line);
    }
}

static void walk(long wanted) {
    unsigned char *head = need(8);
    if (memcmp(head, "DBN", 3)) finish(6, "error", "no DBN header");
    version = head[3];
    size_t length = 8 + (head[4] | head[5] << 8 | head[6] << 16 | (size_t)head[7] << 24);
    need(length);
    begin += length;
    while (records < wanted) {
        length = (size_t)*need(1) * 4;
        unsigned char *record = need(length);
        begin += length;
        if (record[1] == RTYPE_ERROR) {
            record[length - 1] = 0;
            finish(4, "error", (char *)record + 16);
        }
        if (record[1] == RTYPE_SYMBOL_MAPPING || record[1] == RTYPE_SYSTEM) continue;
        records++;
        bytes += (long)length;
    }
}

int main(int count, char **arguments) {
    if (count != 9) {
        fprintf(stderr, "usage: live_client HOST PORT KEY DATASET SCHEMA STYPE_IN SYMBOLS RECORDS\n");
        return 64;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(arguments[1], arguments[2], &hints, &found)) finish(6, "error", "no such host");
    peer = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (peer < 0 || connect(peer, found->ai_addr, found->ai_addrlen)) finish(6, "error", "cannot connect");
    log_on(arguments[3], arguments[4]);
    char line[4096];
    snprintf(line, sizeof line, "schema=%s|stype_in=%s|symbols=%s\nstart_session\n", arguments[5], arguments[6],
             arguments[7]);
    say(line);
    walk(atol(arguments[8]));
    close(peer);
    finish(0, NULL, NULL);
}
