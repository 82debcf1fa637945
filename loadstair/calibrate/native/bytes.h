/* A buffer that grows. All zero is an empty one; without memory the program ends. */
#ifndef LOADSTAIR_BYTES_H
#define LOADSTAIR_BYTES_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    char *at;
    size_t length, capacity;
};

static inline void *grown(void *at, size_t size) {
    void *larger = realloc(at, size);
    if (!larger) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(1);
    }
    return larger;
}

static inline void reserve(struct bytes *bytes, size_t more) {
    size_t needed = bytes->length + more, doubled = bytes->capacity * 2;
    if (needed <= bytes->capacity) return;
    bytes->capacity = doubled > needed ? doubled : needed;
    bytes->at = grown(bytes->at, bytes->capacity);
}

static inline void append(struct bytes *bytes, const char *data, size_t length) {
    if (!length) return;
    reserve(bytes, length);
    memcpy(bytes->at + bytes->length, data, length);
    bytes->length += length;
}

__attribute__((format(printf, 2, 3))) static inline void print(struct bytes *bytes, const char *format, ...) {
    va_list words;
    va_start(words, format);
    int length = vsnprintf(NULL, 0, format, words);
    va_end(words);
    reserve(bytes, (size_t)length + 1);
    va_start(words, format);
    vsnprintf(bytes->at + bytes->length, (size_t)length + 1, format, words);
    va_end(words);
    bytes->length += (size_t)length;
}

/* Digits of a number that is not negative: for hot paths, where `print` is too slow. */
static inline void append_number(struct bytes *bytes, int64_t number) {
    char digits[24];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    append(bytes, digits + at, sizeof digits - at);
}

#endif
