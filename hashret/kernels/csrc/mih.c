/* Exact multi-index hashing (Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012).
 *
 * The bits are cut into m substrings with a table each. Step t = m a + j probes table j at the substring radius a, that
 * is, every value that differs from the query's in exactly a bits. After step t every code within distance t was seen:
 * one that was not differs in at least a + 1 bits in each of tables 0 to j and in at least a in the others, which is
 * t + 1 or more. So the search ends when t reaches the running k-th distance, and ties at it are complete.
 *
 * A code is taken at the first step that meets it, which its substring distances tell, so no set of seen rows is kept.
 *
 * Before a step, what it and the ones after it would cost is weighed against a scan. Must not know of Python.
 */
#include "mih.h"

enum {
    PROBES = 1024, /* done together, so that their cache misses overlap */
    AHEAD = 64,    /* candidates whose codes are on the way while as many that came before are looked at */
};
#define TRIAL 0.1 /* of the cost of a scan may be spent to find out how near the nearest are */

/* `width` bits from bit `from` on, where bit i is bit i % 8 of byte i / 8. */
HR_INLINE uint32_t substring(const uint8_t *code, size_t n_bytes, uint32_t from, uint32_t width) {
    uint64_t word = 0;
    size_t byte = from / 8, n = n_bytes - byte < 8 ? n_bytes - byte : 8;
    if (n == 8) word = hr_word(code + byte);
    else memcpy(&word, code + byte, n);
    return (uint32_t)(word >> (from % 8)) & (((uint32_t)1 << width) - 1);
}

int hr_mih_build(const uint8_t *codes, size_t n_rows, size_t n_bytes, uint32_t from, uint32_t width, uint32_t *starts,
                 uint32_t *ids) {
    size_t values = (size_t)1 << width;
    memset(starts, 0, (values + 1) * sizeof *starts);
    for (size_t row = 0; row < n_rows; row++) starts[substring(codes + row * n_bytes, n_bytes, from, width) + 1]++;
    for (size_t v = 0; v < values; v++) starts[v + 1] += starts[v];
    uint32_t *next = malloc(values * sizeof *next);
    if (next == NULL) return 0;
    memcpy(next, starts, values * sizeof *next);
    for (size_t row = 0; row < n_rows; row++)
        ids[next[substring(codes + row * n_bytes, n_bytes, from, width)]++] = (uint32_t)row;
    free(next);
    return 1;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What was found. Rows come in any order here, so ties at the limit are kept until they are sorted. */
typedef struct {
    uint64_t *keys;
    size_t size, capacity, wanted, within;
    uint64_t bound;   /* only smaller keys are of use */
    uint32_t limit;   /* nor are larger distances */
    uint32_t *counts; /* by distance */
} found;

static int keep(found *f, uint32_t distance, uint64_t row) {
    uint64_t key = (uint64_t)distance << HR_ROW_BITS | row;
    if (key >= f->bound) return 1;
    if (f->size == f->capacity) {
        if (f->wanted <= f->size / 2) { /* what is not among the best by now never will be */
            qsort(f->keys, f->size, sizeof *f->keys, by_key);
            f->size = f->wanted;
            f->bound = f->keys[f->size - 1];
            if (key >= f->bound) return 1;
        } else {
            uint64_t *more = realloc(f->keys, 2 * f->capacity * sizeof *more);
            if (more == NULL) return 0;
            f->keys = more;
            f->capacity *= 2;
        }
    }
    f->keys[f->size++] = key;
    f->counts[distance]++;
    f->within++;
    while (f->wanted != SIZE_MAX && f->limit > 0 && f->within - f->counts[f->limit] >= f->wanted)
        f->within -= f->counts[f->limit--];
    return 1;
}

typedef struct {
    const hr_mih *index;
    uint64_t padded[HR_MAX_BITS / 64]; /* the query in whole words */
    uint32_t value[HR_MIH_TABLES]; /* the query's substrings */
    found found;
    hr_mih_result *result;
    double spent;
} search;

/* The first step that meets a code. */
static uint32_t first_step(const search *s, const uint8_t *code) {
    uint32_t first = UINT32_MAX;
    for (uint32_t j = 0; j < s->index->n_tables; j++) {
        const hr_table *table = &s->index->tables[j];
        uint32_t value = substring(code, s->index->n_bytes, table->from, table->width);
        uint32_t step = HR_POPCOUNT(value ^ s->value[j]) * s->index->n_tables + j;
        if (step < first) first = step;
    }
    return first;
}

/* Keep those of some candidates that are near, wanted and new; returns 0 when memory ran out. */
static int look(search *s, const uint32_t *rows, size_t n, uint32_t step) {
    const hr_mih *index = s->index;
    hr_near near[AHEAD];
    size_t found = hr_within_limit_now(index->codes, index->n_bytes, rows, n, s->padded, s->found.limit, near);
    for (size_t i = 0; i < found; i++) {
        uint32_t row = near[i].row;
        if (near[i].distance > s->found.limit || (index->mask != NULL && !index->mask[row])) continue;
        if (first_step(s, index->codes + (size_t)row * index->n_bytes) != step) continue;
        if (!keep(&s->found, near[i].distance, row)) return 0;
    }
    return 1;
}

/* Look at the rows of some probes, as long as this costs less than a scan. */
static hr_mih_end probe(search *s, const hr_table *table, const uint32_t *values, size_t n, uint32_t step) {
    const hr_mih *index = s->index;
    uint32_t start[PROBES], end[PROBES], rows[2][AHEAD]; /* candidates on the way, and those before them */
    size_t total = 0, coming = 0, here = 0;
    int which = 0;
    for (size_t i = 0; i < n; i++) {
        start[i] = table->starts[values[i]];
        end[i] = table->starts[values[i] + 1];
        if (start[i] > end[i] || end[i] > index->n_rows) return HR_MIH_DAMAGED;
        if (start[i] < end[i]) HR_PREFETCH(table->ids + start[i]);
        total += end[i] - start[i];
    }
    s->result->probes += n;
    s->spent += (double)n * index->probe_ns + (double)total * index->candidate_ns;
    if (s->spent > index->scan_ns) return HR_MIH_SCAN;
    s->result->candidates += total;
    for (size_t i = 0; i < n; i++)
        for (uint32_t at = start[i]; at < end[i]; at++) {
            uint32_t row = table->ids[at];
            if (row >= index->n_rows) return HR_MIH_DAMAGED;
            const uint8_t *code = index->codes + (size_t)row * index->n_bytes;
            HR_PREFETCH(code);
            HR_PREFETCH(code + index->n_bytes - 1); /* it may lie across two cache lines */
            rows[which][coming++] = row;
            if (coming < AHEAD) continue;
            if (!look(s, rows[!which], here, step)) return HR_MIH_MEMORY;
            which = !which;
            here = coming;
            coming = 0;
        }
    if (!look(s, rows[!which], here, step) || !look(s, rows[which], coming, step)) return HR_MIH_MEMORY;
    return HR_MIH_DONE;
}

/* Probe every value that differs from the query's in exactly `radius` bits. */
static hr_mih_end run_step(search *s, uint32_t step) {
    const hr_table *table = &s->index->tables[step % s->index->n_tables];
    uint32_t radius = step / s->index->n_tables, value = s->value[step % s->index->n_tables], values[PROBES];
    if (radius > table->width) return HR_MIH_DONE;
    size_t n = 0;
    uint64_t end = (uint64_t)1 << table->width;
    for (uint64_t bits = ((uint64_t)1 << radius) - 1; bits < end;) {
        values[n] = value ^ (uint32_t)bits;
        HR_PREFETCH(table->starts + values[n]);
        if (++n == PROBES) {
            hr_mih_end state = probe(s, table, values, n, step);
            if (state != HR_MIH_DONE) return state;
            n = 0;
        }
        if (bits == 0) break;
        uint64_t lowest = bits & (0 - bits), ripple = bits + lowest; /* the next number with as many ones */
        bits = ripple | (((bits ^ ripple) >> 2) / lowest);
    }
    return n ? probe(s, table, values, n, step) : HR_MIH_DONE;
}

/* The expected cost of a step: its probes, and the rows that random codes would have there. */
static double step_ns(const hr_mih *index, uint32_t step) {
    const hr_table *table = &index->tables[step % index->n_tables];
    uint32_t radius = step / index->n_tables;
    if (radius > table->width) return 0;
    double probes = 1;
    for (uint32_t i = 0; i < radius; i++) probes = probes * (table->width - i) / (i + 1);
    double rows = (double)index->n_rows / (double)((uint64_t)1 << table->width);
    return probes * (index->probe_ns + rows * index->candidate_ns);
}

static hr_mih_end run(search *s) {
    const hr_mih *index = s->index;
    for (uint32_t step = 0; step <= s->found.limit; step++) {
        double next = s->spent + step_ns(index, step), all = next;
        if (next > TRIAL * index->scan_ns) {
            for (uint32_t later = step + 1; later <= s->found.limit && all <= index->scan_ns; later++)
                all += step_ns(index, later);
            if (all > index->scan_ns) return HR_MIH_SCAN;
        }
        hr_mih_end state = run_step(s, step);
        if (state != HR_MIH_DONE) return state;
        s->result->steps = step + 1;
    }
    return HR_MIH_DONE;
}

hr_mih_end hr_mih_search(const hr_mih *index, const uint8_t *query, hr_mih_result *result) {
    search s;
    memset(&s.padded, 0, sizeof s.padded);
    memcpy(s.padded, query, index->n_bytes);
    memset(result, 0, sizeof *result);
    s.index = index;
    s.result = result;
    s.spent = 0;
    for (uint32_t j = 0; j < index->n_tables; j++)
        s.value[j] = substring(query, index->n_bytes, index->tables[j].from, index->tables[j].width);
    found *f = &s.found;
    memset(f, 0, sizeof *f);
    f->wanted = index->wanted;
    f->limit = index->radius < index->n_bits ? index->radius : index->n_bits;
    f->bound = UINT64_MAX;
    f->capacity = f->wanted == SIZE_MAX || f->wanted > 100000 ? 1024 : 2 * f->wanted + 256;
    f->keys = malloc(f->capacity * sizeof *f->keys);
    f->counts = calloc((size_t)index->n_bits + 2, sizeof *f->counts);
    hr_mih_end end = f->keys == NULL || f->counts == NULL ? HR_MIH_MEMORY : run(&s);
    free(f->counts);
    if (end != HR_MIH_DONE) {
        free(f->keys);
        return end;
    }
    qsort(f->keys, f->size, sizeof *f->keys, by_key);
    result->keys = f->keys;
    result->n = f->size < f->wanted ? f->size : f->wanted;
    return HR_MIH_DONE;
}
