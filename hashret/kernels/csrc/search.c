/* Exact search: rows in chunks, chunks or queries among threads, many queries a chunk.
 *
 *   request ─► tiles of queries ─► threads take chunks of rows ─► level: scan (few queries) | bit-sliced blocks (many)
 *                            │           every thread has its own selections ─► merged by (distance, row)
 *                            └──► of many queries: threads take some of them, and look at all chunks
 *
 * A chunk stays in the cache while all queries of the tile look at it. Chunks are taken in ascending order, so each
 * thread sees its rows in ascending order, which the selection relies on. Threads with queries of their own have nothing
 * to merge, and a query keeps as many rows as with one thread; but each has to transpose all blocks. Must not know of
 * Python.
 */
#include "search.h"

#include "sample.h"
#include "threads.h"

enum {
    CHUNK_ROWS = 8192,          /* a multiple of every block and of 64 */
    SCAN_BYTES = 16384,         /* rows that a few queries look at in turn; they stay in the L1 cache */
    THREAD_BYTES = 4 << 20,     /* codes looked at (bytes x queries) that are worth a thread */
    PICK_BYTES = 384,           /* a row by itself takes as long as a scan of these, */
    PICK_WIDTHS = 12,           /* and of so many rows: 1.7 % of a million codes of 64 bits, 4 % at 256 */
    SAMPLE = 128,               /* rows of a chunk that tell roughly how many of it a mask selects */
    DECEIVED = 16,              /* queries whose sample deceived them are searched again one by one; more, with their tile */
    PICKED = 256,               /* rows by themselves until nearer ones bring the limit down */
    APART = 256,                /* queries of its own that a thread needs, so that transposing is a small part: with a
                                 * tile's queries there are two to four such threads, and more take chunks */
    KEEP_WORDS = 4,             /* to keep a row takes a query as long as its share of transposing so many words does */
};
/* About the most memory that the selections of a tile take in a thread; one query may want more, and a search within a
 * radius keeps all that it finds. */
#define TILE_BYTES ((size_t)256 << 20)

static const hr_sample no_sample;

typedef struct {
    const hr_request *request;
    const hr_level *level;
    size_t words, tile, stride;
    const uint64_t *queries; /* of this tile, in whole words */
    int sliced, columns, threads;
    int apart; /* every thread has queries of its own, a part of the tile; else they take chunks */
    size_t next, n_chunks, pick_bytes; /* next: chunk or part */
    const hr_sample *sample;
} search_job;

typedef struct {
    search_job *job;
    const uint64_t *queries; /* all of the tile, or its part */
    size_t tile;
    hr_selection *selections;
    uint64_t *layouts;
    uint8_t *scratch, *padded;
    void *memory; /* that scratch, padded and layouts lie in */
    int began, ok;
} worker;

/* A bit for each of n rows. */
static void all_bits(size_t n, uint64_t *bits) {
    memset(bits, 0xff, n / 64 * 8);
    if (n % 64) bits[n / 64] = ((uint64_t)1 << n % 64) - 1;
}

static void copy_rows(const uint8_t *from, size_t n, size_t n_bytes, size_t words, uint8_t *to) {
    for (size_t row = 0; row < n; row++) {
        uint8_t *code = to + row * words * 8;
        memcpy(code, from + row * n_bytes, n_bytes);
        memset(code + n_bytes, 0, words * 8 - n_bytes);
    }
}

/* Whether so few of the first rows of a chunk are set that the others are worth a look at their bits. */
static int selective(const search_job *job, const uint8_t *mask, size_t n, uint64_t *bits) {
    return job->level->bits(mask, n, bits) * job->pick_bytes < 2 * n * job->request->n_bytes;
}

/* Look at single rows of a chunk, those whose bits are set, for a few queries. */
static void search_picked(worker *w, const uint8_t *rows, size_t n, const uint64_t *bits, uint64_t first) {
    const search_job *job = w->job;
    uint32_t picked[CHUNK_ROWS + 2];
    size_t count = 0;
    for (size_t word = 0; word * 64 < n; word++) {
        uint64_t left = bits[word];
        uint32_t at = (uint32_t)word * 64;
        for (int i = 0; i < 2; i++, left &= left - 1) { /* no branches: how many of 64 are set is anyone's guess */
            picked[count] = at + HR_LOWEST(left | (uint64_t)1 << 63);
            count += left != 0;
        }
        for (; left; left &= left - 1) picked[count++] = at + HR_LOWEST(left);
    }
    for (size_t q = 0; q < w->tile; q++) {
        hr_selection *selection = &w->selections[q];
        const uint64_t *query = w->queries + q * job->words;
        for (size_t from = 0; from < count && selection->below; from += PICKED) {
            hr_near near[PICKED];
            size_t some = count - from < PICKED ? count - from : PICKED;
            for (size_t i = from; q == 0 && i < from + some; i++) /* they come while the first are looked at */
                for (size_t line = 0; line < job->request->n_bytes; line += 64)
                    HR_PREFETCH(rows + picked[i] * job->request->n_bytes + line);
            some = hr_within_limit_now(rows, job->request->n_bytes, picked + from, some, query, selection->below - 1, near);
            for (size_t i = 0; i < some; i++)
                if (near[i].distance < selection->below) hr_keep(selection, near[i].distance, first + near[i].row);
        }
    }
}

static void search_chunk(worker *w, size_t chunk) {
    const search_job *job = w->job;
    const hr_request *request = job->request;
    const hr_level *level = job->level;
    size_t words = job->words, first = chunk * CHUNK_ROWS;
    size_t n = request->n_rows - first < CHUNK_ROWS ? request->n_rows - first : CHUNK_ROWS;
    const uint8_t *rows = request->codes + first * request->n_bytes;
    const uint8_t *mask = request->mask == NULL ? NULL : request->mask + first;
    uint64_t bits[CHUNK_ROWS / 64 + 8] = {0};
    if (mask == NULL) {
        if (job->sliced) all_bits(n, bits);
    } else if (job->sliced || selective(job, mask, n < SAMPLE ? n : SAMPLE, bits)) {
        size_t wanted = level->bits(mask, n, bits);
        if (!wanted) return;
        if (!job->sliced && wanted * job->pick_bytes < n * request->n_bytes) {
            search_picked(w, rows, n, bits, first);
            return;
        }
    }
    if (request->n_bytes != words * 8) {
        copy_rows(rows, n, request->n_bytes, words, w->padded);
        rows = w->padded;
    }
    if (!job->sliced) {
        size_t step = w->tile == 1 ? n : (SCAN_BYTES / (words * 8) + 63) / 64 * 64;
        for (size_t row = 0; row < n; row += step)
            if (job->columns)
                level->columns(rows + row * words * 8, n - row < step ? n - row : step, words, w->queries, w->tile,
                               mask == NULL ? NULL : mask + row, first + row, w->scratch, w->selections);
            else for (size_t q = 0; q < w->tile; q++)
                if (w->selections[q].below)
                    level->scan(rows + row * words * 8, n - row < step ? n - row : step, words,
                                w->queries + q * words, mask == NULL ? NULL : mask + row, first + row,
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
            uint8_t *full = w->padded + (rows == w->padded ? CHUNK_ROWS * words * 8 : 0);
            memcpy(full, block, rest);
            memset(full + rest, 0, lanes * words * 8 - rest);
            block = full;
        }
        level->sliced(block, words, request->n_bits, w->queries, w->layouts, job->stride, w->tile, wanted,
                      first + row, w->scratch, w->selections);
    }
}

static int worker_open(worker *w) {
    const search_job *job = w->job;
    const hr_request *request = job->request;
    const hr_level *level = job->level;
    w->selections = calloc(w->tile, sizeof *w->selections);
    if (w->selections == NULL) return 0;
    int copies = request->n_bytes != job->words * 8;
    size_t scratch = job->sliced ? (hr_scratch_bytes(level, request->n_bits, w->tile) + 63) / 64 * 64 : job->columns ? SCAN_BYTES : 0;
    size_t padded = ((copies ? CHUNK_ROWS : 0) + (job->sliced ? (size_t)level->lanes : 0)) * job->words * 8;
    size_t layouts = job->sliced ? w->tile * job->stride * 8 : 0;
    if (scratch + padded) {
        w->memory = malloc(scratch + padded + layouts + 64);
        if (w->memory == NULL) return 0;
        w->scratch = (uint8_t *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63);
        w->padded = w->scratch + scratch;
        w->layouts = (uint64_t *)(w->padded + padded);
    }
    for (size_t q = 0; q < w->tile; q++) {
        const uint64_t *query = w->queries + q * job->words;
        uint32_t below = hr_sample_below(job->sample, request, level, job->words, query);
        if (!hr_selection_open(&w->selections[q], request->n_bits, below, request->wanted)) return 0;
        if (job->sliced) level->lay_out(query, request->n_bits, below, w->layouts + q * job->stride);
    }
    return 1;
}

static void worker_close(worker *w) {
    if (w->selections != NULL)
        for (size_t q = 0; q < w->tile; q++) hr_selection_close(&w->selections[q]);
    free(w->selections);
    free(w->memory);
}

/* The keys of every query in their order, and no more than are wanted. */
static int sort_all(worker *w) {
    uint64_t *sorted = NULL;
    size_t room = 0;
    int ok = 1;
    for (size_t q = 0; q < w->tile && ok; q++) {
        hr_selection *s = &w->selections[q];
        if (sorted == NULL || s->size > room) {
            room = s->size + 64;
            free(sorted);
            sorted = malloc(room * sizeof *sorted);
        }
        ok = sorted != NULL && !s->failed;
        if (!ok) break;
        s->size = hr_selection_sorted(s, sorted);
        memcpy(s->keys, sorted, s->size * sizeof *sorted);
    }
    free(sorted);
    return ok;
}

/* `from` is the first chunk; further ones are taken from `next`, or are those that follow. */
static void search_chunks(worker *w, size_t from, size_t *next) {
    w->began = 1;
    w->ok = worker_open(w);
    if (!w->ok) return;
    for (size_t chunk = from; chunk < w->job->n_chunks; chunk = next == NULL ? chunk + 1 : HR_TAKE(*next))
        search_chunk(w, chunk);
    w->ok = sort_all(w);
}

static void work(void *workers, int thread) {
    worker *all = workers;
    search_job *job = all->job;
    if (job->apart) {
        for (size_t part; (part = HR_TAKE(job->next)) < (size_t)job->threads;) search_chunks(&all[part], 0, NULL);
        return;
    }
    size_t chunk = HR_TAKE(job->next);
    if (thread && chunk >= job->n_chunks) return; /* the others have done it all */
    search_chunks(&all[thread], chunk, &job->next);
}

/* How many rows the workers, which had the same queries, found for one of these. */
static size_t found(const worker *workers, int n_workers, size_t q) {
    size_t total = 0;
    for (int i = 0; i < n_workers; i++) total += workers[i].selections[q].size;
    return total;
}

static int search_again(const search_job *job, const uint64_t *query, size_t number, hr_receive receive, void *context);

/* What the workers, which had the same queries, found for each of them; `first` is the number of the first query. */
static int deliver(worker *workers, int n_workers, size_t first, hr_receive receive, void *context) {
    const search_job *job = workers[0].job;
    size_t wanted = job->request->wanted, room = 0;
    uint64_t *merged = NULL;
    int ok = 1;
    for (size_t q = 0; q < workers[0].tile && ok; q++) {
        size_t total = found(workers, n_workers, q), at[HR_THREADS] = {0};
        if (job->sample->n && total < wanted) { /* its bound was too near */
            ok = search_again(job, workers[0].queries + q * job->words, first + q, receive, context);
            continue;
        }
        if (n_workers == 1) {
            ok = receive(context, first + q, workers[0].selections[q].keys, total);
            continue;
        }
        if (total > wanted) total = wanted;
        if (total > room || merged == NULL) {
            room = total + 64;
            free(merged);
            merged = malloc(room * sizeof *merged);
            if (merged == NULL) return 0;
        }
        for (size_t n = 0; n < total; n++) {
            const uint64_t *least = NULL;
            int whose = 0;
            for (int i = 0; i < n_workers; i++) {
                const hr_selection *s = &workers[i].selections[q];
                if (at[i] < s->size && (least == NULL || s->keys[at[i]] < *least)) least = s->keys + at[i], whose = i;
            }
            merged[n] = *least;
            at[whose]++;
        }
        ok = receive(context, first + q, merged, total);
    }
    free(merged);
    return ok;
}

/* How many queries found fewer rows than they want, as the bound that they began with was too near; `sharing` workers
 * had the same queries. */
static size_t deceived(const worker *workers, int n_workers, int sharing) {
    size_t count = 0, wanted = workers[0].job->request->wanted;
    for (int i = 0; i < n_workers; i += sharing)
        for (size_t q = 0; q < workers[i].tile; q++) count += found(&workers[i], sharing, q) < wanted;
    return count;
}

/* `first` is the number of the job's first query. */
static int search_tile(search_job *job, size_t first, hr_receive receive, void *context) {
    worker workers[HR_THREADS];
    job->next = 0;
    int ok = 1, n_workers = 0;
    size_t n = (size_t)job->threads;
    for (size_t i = 0; i < n; i++) {
        size_t from = job->apart ? job->tile * i / n : 0, end = job->apart ? job->tile * (i + 1) / n : job->tile;
        workers[i] = (worker){.job = job, .queries = job->queries + from * job->words, .tile = end - from};
    }
    hr_together(job->threads, work, workers);
    for (size_t i = 0; i < n; i++) {
        if (!workers[i].began) continue; /* the others did its chunks */
        ok &= workers[i].ok;
        workers[n_workers++] = workers[i];
    }
    int sharing = job->apart ? 1 : n_workers;
    if (ok && job->sample->n && deceived(workers, n_workers, sharing) > DECEIVED) {
        for (int i = 0; i < n_workers; i++) worker_close(&workers[i]);
        job->sample = &no_sample;
        return search_tile(job, first, receive, context);
    }
    for (int i = 0; i < n_workers && ok; i += sharing) {
        ok = deliver(&workers[i], sharing, first, receive, context);
        first += workers[i].tile;
    }
    for (int i = 0; i < n_workers; i++) worker_close(&workers[i]);
    return ok;
}

/* One query without a bound to begin with. */
static int search_again(const search_job *job, const uint64_t *query, size_t number, hr_receive receive, void *context) {
    search_job again = *job;
    again.queries = query;
    again.tile = 1;
    again.sliced = again.columns = again.apart = 0;
    again.sample = &no_sample;
    return search_tile(&again, number, receive, context);
}

int hr_search(const hr_request *request, hr_receive receive, void *context) {
    const hr_level *level = hr_level_now;
    size_t words = (request->n_bytes + 7) / 8, wanted = request->wanted;
    size_t a_query = wanted == SIZE_MAX ? 1024 : (2 * wanted + 64) * 8 + (request->n_bits + 2) * 4;
    size_t most = TILE_BYTES / a_query;
    if (most < 1) most = 1;
    if (most > HR_TILE) most = HR_TILE;
    uint64_t *queries = malloc(most * words * 8);
    if (queries == NULL) return 0;
    hr_sample sample;
    hr_sample_open(&sample, request, words);
    int ok = 1;
    for (size_t first = 0; first < request->n_queries && ok; first += most) {
        search_job job = {.request = request, .level = level, .words = words, .queries = queries, .sample = &sample};
        job.tile = request->n_queries - first < most ? request->n_queries - first : most;
        job.stride = (HR_START + hr_units(request->n_bits) + 7) / 8 * 8;
        job.sliced = level->lanes && job.tile >= level->sliced_from[words > 2 ? 2 : words - 1];
        job.columns = !job.sliced && job.tile > 1 && level->columns != NULL && hr_in_pairs(words);
        job.pick_bytes = PICK_BYTES + PICK_WIDTHS * request->n_bytes;
        job.n_chunks = (request->n_rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
        copy_rows(request->queries + first * request->n_bytes, job.tile, request->n_bytes, words, (uint8_t *)queries);
        uint64_t worth = (uint64_t)request->n_rows * request->n_bytes * job.tile / THREAD_BYTES + 1;
        size_t threads = request->threads < HR_THREADS ? (size_t)request->threads : HR_THREADS;
        if (threads > worth) threads = (size_t)worth;
        /* with chunks of its own a thread keeps about as many rows as one alone */
        int keeps = wanted && wanted < request->n_rows &&
                    job.tile * hr_rows_kept(wanted, request->n_rows) * KEEP_WORDS > request->n_rows * words;
        job.apart = threads > 1 && job.tile / threads >= APART && keeps;
        if (!job.apart && threads > job.n_chunks) threads = job.n_chunks;
        job.threads = threads < 1 ? 1 : (int)threads;
        ok = search_tile(&job, first, receive, context);
    }
    hr_sample_close(&sample);
    free(queries);
    return ok;
}
