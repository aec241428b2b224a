// Latencies in constant memory: buckets 0.4 % wide, from 1 ns to 2^40 ns.
#pragma once
#include <stdint.h>
#include <stdio.h>

enum { HISTOGRAM_BITS = 8, HISTOGRAM_BUCKETS = (40 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS };

typedef struct {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, largest;
} histogram;

static inline void histogram_add(histogram *h, uint64_t ns) {
    if (ns > h->largest) h->largest = ns;
    if (ns >= 1ull << 40) ns = (1ull << 40) - 1;
    int shift = ns >> HISTOGRAM_BITS ? 64 - HISTOGRAM_BITS - __builtin_clzll(ns) : 0;
    uint64_t bucket = shift ? ((uint64_t)(shift + 1) << (HISTOGRAM_BITS - 1)) + (ns >> shift) - (1u << (HISTOGRAM_BITS - 1)) : ns;
    h->counts[bucket]++;
    h->total++;
}

// The middle of the bucket in which the quantile lies, microseconds.
static inline double histogram_us(const histogram *h, double quantile) {
    uint64_t wanted = (uint64_t)(quantile * (double)h->total), seen = 0;
    for (uint64_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += h->counts[bucket];
        if (seen > wanted) {
            uint64_t half = 1u << (HISTOGRAM_BITS - 1);
            int shift = bucket < 2 * half ? 0 : (int)(bucket / half) - 1;
            double low = shift ? (double)((bucket % half + half) << shift) : (double)bucket;
            return (low + (double)(1ull << shift) / 2) / 1e3;
        }
    }
    return 0;
}

static inline void histogram_print(const char *name, const histogram *h) {
    printf("\"%s\":{\"count\":%lu,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f}", name,
           h->total, histogram_us(h, .5), histogram_us(h, .9), histogram_us(h, .99), histogram_us(h, .999),
           (double)h->largest / 1e3);
}
