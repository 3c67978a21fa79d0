/* Exact search: rows in chunks, chunks among threads, many queries a chunk.
 *
 *   request ─► tiles of queries ─► threads take chunks of rows ─► level: scan (few queries) | bit-sliced blocks (many)
 *                                        every thread has its own selections ─► merged by (distance, row)
 *
 * A chunk stays in the cache while all queries of the tile look at it. Chunks are taken in ascending order, so each
 * thread sees its rows in ascending order, which the selection relies on. Must not know of Python.
 */
#include "search.h"

#ifndef _WIN32
#define HR_THREADS 1
#include <pthread.h>
#endif

enum {
    CHUNK_ROWS = 8192,          /* a multiple of every block and of 64 */
    TILE_QUERIES = 1024,        /* their layouts stay in the L2 cache at 256 bits */
    SCAN_BYTES = 16384,         /* rows that a few queries look at in turn; they stay in the L1 cache */
    THREAD_BYTES = 1 << 20,     /* codes looked at (bytes x queries) that are worth a thread */
};
#define TILE_BYTES ((size_t)256 << 20) /* most memory that the selections of a tile take in a thread */

typedef struct {
    const hr_request *request;
    const hr_level *level;
    size_t words, tile, stride;
    uint64_t *queries; /* of this tile, in whole words */
    int sliced, columns;
    size_t next_chunk, n_chunks;
#ifdef HR_THREADS
    pthread_mutex_t lock;
#endif
} job;

typedef struct {
    job *job;
    hr_selection *selections;
    uint16_t *offsets;
    uint8_t *scratch, *padded;
    void *memory; /* that scratch and padded lie in */
    int ok;
#ifdef HR_THREADS
    pthread_t thread;
    int started;
#endif
} worker;

static size_t take_chunk(job *job) {
#ifdef HR_THREADS
    pthread_mutex_lock(&job->lock);
    size_t chunk = job->next_chunk < job->n_chunks ? job->next_chunk++ : job->n_chunks;
    pthread_mutex_unlock(&job->lock);
    return chunk;
#else
    return job->next_chunk < job->n_chunks ? job->next_chunk++ : job->n_chunks;
#endif
}

/* One bit a row; returns whether any is set. Bits past the last row are zero. */
static int mask_bits(const uint8_t *mask, size_t n, uint64_t *bits) {
    uint64_t any = 0;
    for (size_t word = 0; word * 64 < n; word++) {
        uint64_t value = 0;
        size_t rows = n - word * 64 < 64 ? n - word * 64 : 64;
        if (mask == NULL) {
            value = rows == 64 ? ~(uint64_t)0 : ((uint64_t)1 << rows) - 1;
        } else {
            const uint8_t *from = mask + word * 64;
            size_t row = 0;
            for (; row + 8 <= rows; row += 8) { /* eight bytes to eight bits */
                uint64_t eight = hr_word(from + row);
                eight = ((eight & 0x7f7f7f7f7f7f7f7fu) + 0x7f7f7f7f7f7f7f7fu) | eight;
                value |= ((eight >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56) << row;
            }
            for (; row < rows; row++) value |= (uint64_t)(from[row] != 0) << row;
        }
        bits[word] = value;
        any |= value;
    }
    return any != 0;
}

static void copy_rows(const uint8_t *from, size_t n, size_t n_bytes, size_t words, uint8_t *to) {
    for (size_t row = 0; row < n; row++) {
        uint8_t *code = to + row * words * 8;
        memcpy(code, from + row * n_bytes, n_bytes);
        memset(code + n_bytes, 0, words * 8 - n_bytes);
    }
}

static void search_chunk(worker *w, size_t chunk) {
    const job *job = w->job;
    const hr_request *request = job->request;
    const hr_level *level = job->level;
    size_t words = job->words, first = chunk * CHUNK_ROWS;
    size_t n = request->n_rows - first < CHUNK_ROWS ? request->n_rows - first : CHUNK_ROWS;
    const uint8_t *rows = request->codes + first * request->n_bytes;
    const uint8_t *mask = request->mask == NULL ? NULL : request->mask + first;
    uint64_t bits[CHUNK_ROWS / 64 + 8] = {0};
    if (job->sliced) {
        if (!mask_bits(mask, n, bits)) return;
    } else if (mask != NULL && !hr_any_wanted(mask, n)) {
        return;
    }
    if (request->n_bytes != words * 8) {
        copy_rows(rows, n, request->n_bytes, words, w->padded);
        rows = w->padded;
    }
    if (!job->sliced) {
        size_t step = job->tile == 1 ? n : (SCAN_BYTES / (words * 8) + 63) / 64 * 64;
        for (size_t row = 0; row < n; row += step)
            if (job->columns)
                level->columns(rows + row * words * 8, n - row < step ? n - row : step, words, job->queries, job->tile,
                               mask == NULL ? NULL : mask + row, first + row, w->scratch, w->selections);
            else for (size_t q = 0; q < job->tile; q++)
                if (w->selections[q].below)
                    level->scan(rows + row * words * 8, n - row < step ? n - row : step, words,
                                job->queries + q * words, mask == NULL ? NULL : mask + row, first + row,
                                &w->selections[q]);
        return;
    }
    size_t lanes = level->lanes;
    for (size_t row = 0; row < n; row += lanes) {
        const uint64_t *wanted = bits + row / 64;
        uint64_t any = 0;
        for (size_t i = 0; i < lanes / 64; i++) any |= wanted[i];
        if (!any) continue;
        const uint8_t *block = rows + row * words * 8;
        if (n - row < lanes) { /* the last block is filled up with rows that the mask leaves out */
            size_t rest = (n - row) * words * 8;
            uint8_t *full = w->padded + CHUNK_ROWS * words * 8;
            memcpy(full, block, rest);
            memset(full + rest, 0, lanes * words * 8 - rest);
            block = full;
        }
        level->sliced(block, words, request->n_bits, job->queries, w->offsets, job->stride, job->tile, wanted,
                      first + row, w->scratch, w->selections);
    }
}

static int worker_open(worker *w, job *job) {
    const hr_request *request = job->request;
    const hr_level *level = job->level;
    w->selections = calloc(job->tile, sizeof *w->selections);
    if (w->selections == NULL) return 0;
    for (size_t q = 0; q < job->tile; q++)
        if (!hr_selection_open(&w->selections[q], request->n_bits, request->below, request->wanted)) return 0;
    int copies = request->n_bytes != job->words * 8;
    size_t scratch = job->sliced ? (hr_tables_bytes(level, request->n_bits) + 63) / 64 * 64 : job->columns ? SCAN_BYTES : 0;
    size_t padded = (copies || job->sliced) ? (CHUNK_ROWS + (size_t)level->lanes) * job->words * 8 : 0;
    if (scratch + padded) {
        w->memory = malloc(scratch + padded + 64);
        if (w->memory == NULL) return 0;
        w->scratch = (uint8_t *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63);
        w->padded = w->scratch + scratch;
    }
    if (job->sliced) {
        w->offsets = calloc(job->tile * job->stride, sizeof *w->offsets);
        if (w->offsets == NULL) return 0;
        for (size_t q = 0; q < job->tile; q++)
            level->lay_out(job->queries + q * job->words, request->n_bits, request->below, w->offsets + q * job->stride);
    }
    return 1;
}

static void worker_close(worker *w, size_t tile) {
    if (w->selections != NULL)
        for (size_t q = 0; q < tile; q++) hr_selection_close(&w->selections[q]);
    free(w->selections);
    free(w->offsets);
    free(w->memory);
}

static void *work(void *argument) {
    worker *w = argument;
    w->ok = worker_open(w, w->job);
    if (!w->ok) return NULL;
    for (size_t chunk; (chunk = take_chunk(w->job)) < w->job->n_chunks;) search_chunk(w, chunk);
    for (size_t q = 0; q < w->job->tile; q++)
        if (w->selections[q].failed) w->ok = 0;
    return NULL;
}

/* The sorted keys of each thread to those of the query. */
static int deliver(worker *workers, int n_workers, size_t tile, size_t first, hr_receive receive, void *context) {
    size_t wanted = workers[0].job->request->wanted;
    uint64_t *sorted = NULL, *merged = NULL;
    size_t room = 0;
    int ok = 1;
    for (size_t q = 0; q < tile && ok; q++) {
        size_t total = 0, parts[64][2];
        for (int i = 0; i < n_workers; i++) total += workers[i].selections[q].size;
        if (total > room || sorted == NULL) {
            room = total + 64;
            free(sorted);
            free(merged);
            sorted = malloc(room * sizeof *sorted);
            merged = malloc(room * sizeof *merged);
            if (sorted == NULL || merged == NULL) {
                ok = 0;
                break;
            }
        }
        size_t used = 0;
        for (int i = 0; i < n_workers; i++) {
            parts[i][0] = used;
            used += hr_selection_sorted(&workers[i].selections[q], sorted + used);
            parts[i][1] = used;
        }
        if (n_workers == 1) {
            ok = receive(context, first + q, sorted, used);
            continue;
        }
        size_t n = 0;
        for (; n < wanted && n < used; n++) {
            int best = -1;
            for (int i = 0; i < n_workers; i++)
                if (parts[i][0] < parts[i][1] && (best < 0 || sorted[parts[i][0]] < sorted[parts[best][0]])) best = i;
            merged[n] = sorted[parts[best][0]++];
        }
        ok = receive(context, first + q, merged, n);
    }
    free(sorted);
    free(merged);
    return ok;
}

static int search_tile(job *job, int threads, size_t first, hr_receive receive, void *context) {
    worker workers[64];
    memset(workers, 0, sizeof workers);
    job->next_chunk = 0;
    for (int i = 0; i < threads; i++) workers[i].job = job;
#ifdef HR_THREADS
    if (pthread_mutex_init(&job->lock, NULL) != 0) return 0;
    for (int i = 1; i < threads; i++)
        workers[i].started = pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0;
#endif
    work(&workers[0]);
    int ok = workers[0].ok, n_workers = 1;
#ifdef HR_THREADS
    for (int i = 1; i < threads; i++) {
        if (!workers[i].started) continue; /* the others did its chunks */
        pthread_join(workers[i].thread, NULL);
        ok &= workers[i].ok;
        workers[n_workers++] = workers[i];
    }
    pthread_mutex_destroy(&job->lock);
#endif
    if (ok) ok = deliver(workers, n_workers, job->tile, first, receive, context);
    for (int i = 0; i < n_workers; i++) worker_close(&workers[i], job->tile);
    return ok;
}

int hr_search(const hr_request *request, hr_receive receive, void *context) {
    const hr_level *level = hr_level_now;
    size_t words = (request->n_bytes + 7) / 8, wanted = request->wanted;
    size_t a_query = wanted == SIZE_MAX ? 1024 : (2 * wanted + 64) * 8 + (request->n_bits + 2) * 4;
    size_t most = TILE_BYTES / a_query;
    if (most < 1) most = 1;
    if (most > TILE_QUERIES) most = TILE_QUERIES;
    uint64_t *queries = malloc(most * words * 8);
    if (queries == NULL) return 0;
    int ok = 1;
    for (size_t first = 0; first < request->n_queries && ok; first += most) {
        job job = {.request = request, .level = level, .words = words, .queries = queries};
        job.tile = request->n_queries - first < most ? request->n_queries - first : most;
        job.stride = (HR_START + hr_units(request->n_bits) * HR_UNIT_LOADS + 31) / 32 * 32;
        job.sliced = level->lanes && job.tile >= level->sliced_from[words > 2 ? 2 : words - 1];
        job.columns = !job.sliced && job.tile > 1 && level->columns != NULL && (words == 2 || words == 4);
        job.n_chunks = (request->n_rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
        copy_rows(request->queries + first * request->n_bytes, job.tile, request->n_bytes, words, (uint8_t *)queries);
        size_t worth = request->n_rows * request->n_bytes / THREAD_BYTES * job.tile + 1;
        size_t threads = request->threads < 64 ? (size_t)request->threads : 64;
        if (threads > worth) threads = worth;
        if (threads > job.n_chunks) threads = job.n_chunks;
        ok = search_tile(&job, threads < 1 ? 1 : (int)threads, first, receive, context);
    }
    free(queries);
    return ok;
}
