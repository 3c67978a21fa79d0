/* Threads that stay between searches.
 *
 * To wake a thread takes some 30 microseconds, and to make one 100 to 5,000, as the system finds it a core; a search of
 * a million codes takes 130. So they wait for the next search, and end when none comes. Nobody waits for a thread that
 * has not begun: what it was to do is done by then.
 *
 *   hr_together ─► its task is listed, one thread is woken ─► it takes a part and wakes two more
 *        └──► part 0 in this thread ─► the task is taken off the list ─► the parts that have begun end
 *
 * Must not know what is done.
 */
#include "threads.h"

#include <stddef.h>

#ifdef _WIN32

void hr_threads_prepare(void) {}
void hr_together(int parts, hr_share share, void *context) {
    (void)parts;
    share(context, 0);
}

#else

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { MOST = 63, LINGER_S = 2 };

typedef struct task {
    hr_share share;
    void *context;
    int next, parts; /* parts from `next` on have not begun */
    int active;
    pthread_cond_t ended;
    struct task *after;
} task;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of all tasks */
static pthread_cond_t listed = PTHREAD_COND_INITIALIZER;
static task *tasks; /* that may have a part to take */
static int threads, idle;

static task *open_task(void) {
    task *found = tasks;
    while (found != NULL && found->next == found->parts) found = found->after;
    return found;
}

static void *serve(void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    for (int waited_long = 0;;) {
        task *own = open_task();
        if (own != NULL) {
            int part = own->next++;
            own->active++;
            for (int more = 0; more < 2 && own->next + more < own->parts; more++) pthread_cond_signal(&listed);
            pthread_mutex_unlock(&lock);
            own->share(own->context, part);
            pthread_mutex_lock(&lock);
            if (--own->active == 0) pthread_cond_signal(&own->ended);
            waited_long = 0;
        } else if (waited_long) {
            break;
        } else {
            struct timespec end;
            clock_gettime(CLOCK_REALTIME, &end);
            end.tv_sec += LINGER_S;
            idle++;
            waited_long = pthread_cond_timedwait(&listed, &lock, &end) == ETIMEDOUT;
            idle--;
        }
    }
    threads--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Make what lacks, with the lock held; without threads this one does it all. */
static void make(int wanted) {
    pthread_attr_t detached;
    sigset_t all, before;
    if (wanted <= idle || pthread_attr_init(&detached) != 0) return;
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are for the threads of the program */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int lacking = wanted - idle; lacking > 0 && threads < MOST; lacking--) {
        pthread_t made;
        if (pthread_create(&made, &detached, serve, NULL) != 0) break;
        threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

void hr_together(int parts, hr_share share, void *context) {
    task own = {.share = share, .context = context, .next = 1, .parts = parts};
    if (parts < 2 || pthread_cond_init(&own.ended, NULL) != 0) {
        share(context, 0);
        return;
    }
    pthread_mutex_lock(&lock);
    own.after = tasks;
    tasks = &own;
    make(parts - 1);
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&listed);
    share(context, 0);
    pthread_mutex_lock(&lock);
    own.next = own.parts;
    task **link = &tasks;
    while (*link != &own) link = &(*link)->after;
    *link = own.after;
    while (own.active) pthread_cond_wait(&own.ended, &lock);
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&own.ended);
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
static void in_child(void) {
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&listed, NULL);
    tasks = NULL;
    threads = idle = 0;
}

void hr_threads_prepare(void) { pthread_atfork(before_fork, after_fork, in_child); }

#endif
