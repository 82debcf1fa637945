/* Times in ns, counted in buckets of 1/1024 of their octave: a percentile is the middle of its bucket, so at most
 * 0.05 % off. Times of 2^44 ns (4.9 h) and more are counted as that. */
#ifndef LOADSTAIR_HISTOGRAM_H
#define LOADSTAIR_HISTOGRAM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PARTS_BITS = 10, PARTS = 1 << PARTS_BITS, TOP_BIT = 44, BUCKETS = (TOP_BIT - PARTS_BITS + 2) * PARTS };

struct histogram {
    uint64_t n;
    int64_t sum_ns;
    int64_t max_ns;
    uint64_t counts[BUCKETS];
};

static inline size_t bucket_of(uint64_t ns) {
    if (ns < PARTS) return ns;
    int shift = 63 - __builtin_clzll(ns) - PARTS_BITS;
    return ((size_t)(shift + 1) << PARTS_BITS) + ((ns >> shift) & (PARTS - 1));
}

static inline int64_t middle_of(size_t bucket) {
    if (bucket < PARTS) return (int64_t)bucket;
    int shift = (int)(bucket >> PARTS_BITS) - 1;
    uint64_t low = (uint64_t)(PARTS + (bucket & (PARTS - 1))) << shift;
    return (int64_t)(low + (((uint64_t)1 << shift) >> 1));
}

static inline void histogram_add(struct histogram *of, int64_t ns) {
    if (ns < 0) ns = 0;
    if (ns > (int64_t)1 << TOP_BIT) ns = (int64_t)1 << TOP_BIT;
    of->n++;
    of->sum_ns += ns;
    if (ns > of->max_ns) of->max_ns = ns;
    of->counts[bucket_of((uint64_t)ns)]++;
}

/* The smallest time that at least this share of all times does not exceed; 0 without any. */
static inline int64_t histogram_percentile(const struct histogram *of, double share) {
    double wanted = share * (double)of->n;
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS && of->n; bucket++) {
        seen += of->counts[bucket];
        if (seen && (double)seen >= wanted) {
            int64_t ns = middle_of(bucket);
            return ns < of->max_ns ? ns : of->max_ns;
        }
    }
    return 0;
}

/* A JSON object. Percentiles and the maximum of nothing are null. */
static inline int histogram_json(const struct histogram *of, char *to, size_t size) {
    static const char empty[] = "{\"n\":0,\"sum_ns\":0,\"p50_ns\":null,\"p90_ns\":null,\"p99_ns\":null,\"max_ns\":null}";
    if (!of->n) return snprintf(to, size, "%s", empty);
    return snprintf(to, size,
                    "{\"n\":%" PRIu64 ",\"sum_ns\":%" PRId64 ",\"p50_ns\":%" PRId64 ",\"p90_ns\":%" PRId64
                    ",\"p99_ns\":%" PRId64 ",\"max_ns\":%" PRId64 "}",
                    of->n, of->sum_ns, histogram_percentile(of, 0.50), histogram_percentile(of, 0.90),
                    histogram_percentile(of, 0.99), of->max_ns);
}

#endif
