/* Times in ns. Timetables and differences use the monotonic clock, which no clock step can move. */
#ifndef LOADSTAIR_CLOCKS_H
#define LOADSTAIR_CLOCKS_H

#include <stdint.h>
#include <time.h>

static const int64_t NS_PER_S = 1000000000, NS_PER_MS = 1000000;

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static inline int64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline double cpu_s(void) { return (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / (double)NS_PER_S; }

/* The other clock is read between two readings, again where the process lost the core in between. */
static inline int64_t realtime_minus_monotonic_ns(void) {
    int64_t closest = INT64_MAX, offset = 0;
    for (int tries = 0; tries < 5 && closest > 1000; tries++) {
        int64_t before = monotonic_ns(), real = clock_ns(CLOCK_REALTIME), after = monotonic_ns();
        if (after - before < closest) {
            closest = after - before;
            offset = real - before - (after - before) / 2;
        }
    }
    return offset;
}

#endif
