/* What a request asks for: as much of HTTP and JSON as the paced server has to understand.
 *
 * Nothing is copied and nothing is trusted: lengths have bounds, and what cannot be read is a mistake in one line. */
#ifndef LOADSTAIR_REQUEST_H
#define LOADSTAIR_REQUEST_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_BYTES_MAX = 64 * 1024, BODY_BYTES_MAX = 64 * 1024 * 1024, ID_BYTES = 96 };
enum { TOKENS_MAX = 1000000, DEPTH_MAX = 64 };

struct head {
    char method[8];
    char target[128];
    char request_id[ID_BYTES]; /* empty: none */
    size_t body_length;
    bool keep_alive;
    bool expects_continue;
    const char *mistake; /* NULL: none */
};

struct asked {
    int64_t tokens;
    int64_t prompt_tokens; /* words, by their spaces */
    bool stream;
    bool usage;
    const char *mistake;
};

static inline bool header_is(const char *line, size_t name_length, const char *name) {
    return strlen(name) == name_length && !strncasecmp(line, name, name_length);
}

static inline bool value_has(const char *value, size_t length, const char *word) {
    size_t wanted = strlen(word);
    for (size_t i = 0; i + wanted <= length; i++)
        if (!strncasecmp(value + i, word, wanted)) return true;
    return false;
}

/* Only characters that are safe in a JSON string and a header. */
static inline void copy_id(char *to, const char *value, size_t length) {
    if (length >= ID_BYTES) length = ID_BYTES - 1;
    for (size_t i = 0; i < length; i++) {
        bool plain = isalnum((unsigned char)value[i]) || (value[i] && strchr("-._:", value[i]));
        to[i] = plain ? value[i] : '_';
    }
    to[length] = 0;
}

static inline void read_header(struct head *head, const char *line, size_t length) {
    const char *colon = memchr(line, ':', length);
    if (!colon) {
        head->mistake = "a header line has no colon";
        return;
    }
    size_t name_length = (size_t)(colon - line);
    const char *value = colon + 1;
    size_t value_length = length - name_length - 1;
    while (value_length && (*value == ' ' || *value == '\t')) value++, value_length--;
    if (header_is(line, name_length, "content-length")) {
        size_t bytes = 0;
        for (size_t i = 0; i < value_length; i++) {
            if (!isdigit((unsigned char)value[i]) || bytes > BODY_BYTES_MAX) {
                head->mistake = "content-length is no number, or too large";
                return;
            }
            bytes = bytes * 10 + (size_t)(value[i] - '0');
        }
        if (bytes > BODY_BYTES_MAX) head->mistake = "the body is too large";
        head->body_length = bytes;
    } else if (header_is(line, name_length, "transfer-encoding")) {
        head->mistake = "send a content-length: chunked requests are not read";
    } else if (header_is(line, name_length, "connection")) {
        if (value_has(value, value_length, "close")) head->keep_alive = false;
        if (value_has(value, value_length, "keep-alive")) head->keep_alive = true;
    } else if (header_is(line, name_length, "expect")) {
        head->expects_continue = value_has(value, value_length, "100-continue");
    } else if (header_is(line, name_length, "x-request-id")) {
        copy_id(head->request_id, value, value_length);
    }
}

/* The head from its first byte up to the empty line that ends it. */
static inline struct head read_head(const char *text, size_t length) {
    struct head head = {.keep_alive = true};
    const char *end = text + length;
    const char *line_end = memchr(text, '\r', length);
    const char *target = line_end ? memchr(text, ' ', (size_t)(line_end - text)) : NULL;
    const char *version = target ? memchr(target + 1, ' ', (size_t)(line_end - target - 1)) : NULL;
    if (!version || line_end - version != 9 || strncmp(version + 1, "HTTP/1.", 7)) {
        head.mistake = "not an HTTP/1 request";
        return head;
    }
    size_t method_length = (size_t)(target - text), target_length = (size_t)(version - target - 1);
    if (method_length >= sizeof head.method || target_length >= sizeof head.target) {
        head.mistake = "the request line is too long";
        return head;
    }
    memcpy(head.method, text, method_length);
    memcpy(head.target, target + 1, target_length);
    head.keep_alive = version[8] == '1';
    for (const char *line = line_end + 2; line < end && !head.mistake;) {
        line_end = memchr(line, '\r', (size_t)(end - line));
        if (!line_end) line_end = end;
        if (line_end > line) read_header(&head, line, (size_t)(line_end - line));
        line = line_end + 2;
    }
    return head;
}

/* The quote that ends the string whose first character is `at`; NULL if it does not end. */
static inline const char *string_end(const char *at, const char *end) {
    const char *from = at;
    while (at < end) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (!quote) return NULL;
        size_t slashes = 0;
        while (quote - slashes > from && quote[-1 - (ptrdiff_t)slashes] == '\\') slashes++;
        if (slashes % 2 == 0) return quote;
        at = quote + 1;
    }
    return NULL;
}

static inline int64_t words_in(const char *at, const char *end) {
    int64_t spaces = 0;
    for (const char *c = at; c < end; c++) spaces += *c == ' ';
    return end > at ? spaces + 1 : 0;
}

struct key {
    const char *name;
    size_t length;
    int depth;
};

static inline bool key_is(const struct key *key, const char *name) {
    return key->length == strlen(name) && !memcmp(key->name, name, key->length);
}

/* A number or a literal: what it means under its key. */
static inline void read_scalar(struct asked *asked, const struct key *key, const char *at, const char *end) {
    char text[24] = {0};
    memcpy(text, at, (size_t)(end - at) < sizeof text - 1 ? (size_t)(end - at) : sizeof text - 1);
    if (key->depth == 1 && (key_is(key, "max_tokens") || key_is(key, "max_completion_tokens"))) {
        if (!strcmp(text, "null")) return;
        char *stop;
        asked->tokens = strtoll(text, &stop, 10);
        if (*stop || asked->tokens < 1 || asked->tokens > TOKENS_MAX)
            asked->mistake = "max_tokens is not between 1 and 1000000";
    } else if (key->depth == 1 && key_is(key, "stream")) {
        asked->stream = !strcmp(text, "true");
    } else if (key->depth == 2 && key_is(key, "include_usage")) {
        asked->usage = !strcmp(text, "true");
    } else if (key_is(key, "prompt") && isdigit((unsigned char)text[0])) {
        asked->prompt_tokens++; /* a prompt of token ids */
    }
}

/* Skims the JSON of a request for completions: the known keys are understood, the rest only has to nest. */
static inline struct asked read_asked(const char *body, size_t length) {
    struct asked asked = {.tokens = 16};
    struct key key = {"", 0, 0};
    const char *end = body + length;
    int depth = 0;
    bool began = false;
    for (const char *at = body; at < end && !asked.mistake; at++) {
        if (isspace((unsigned char)*at) || *at == ',' || *at == ':') continue;
        if (!began && *at != '{') break;
        began = true;
        if (*at == '{' || *at == '[') {
            if (++depth > DEPTH_MAX) asked.mistake = "the JSON is nested too deep";
        } else if (*at == '}' || *at == ']') {
            depth--;
            if (depth < 0) break;
        } else if (*at == '"') {
            const char *text = at + 1, *stop = string_end(text, end);
            if (!stop) break;
            at = stop;
            while (stop + 1 < end && isspace((unsigned char)stop[1])) stop++;
            if (stop + 1 < end && stop[1] == ':') {
                key = (struct key){text, (size_t)(at - text), depth};
            } else if (key_is(&key, "content") || key_is(&key, "text") || key_is(&key, "prompt")) {
                asked.prompt_tokens += words_in(text, at);
            }
        } else {
            const char *stop = at;
            while (stop < end && !isspace((unsigned char)*stop) && !strchr(",]}:\"[{", *stop)) stop++;
            if (stop == at) break;
            read_scalar(&asked, &key, at, stop);
            at = stop - 1;
        }
    }
    if (!asked.mistake && (!began || depth != 0)) asked.mistake = "the body is no JSON object";
    if (!asked.mistake && !asked.stream) asked.mistake = "ask for a stream: an answer in one piece cannot be paced";
    return asked;
}

#endif
