#define _POSIX_C_SOURCE 200809L /* clock_gettime and signal sets, which -std=c11 hides */

/* Threads that stay between searches.
 *
 * To wake a thread takes some 30 microseconds, and to make one 100 to 5,000, as the system finds it a core; a search of
 * a million codes takes 130. So they wait for the next search, and end when none comes. Nobody waits for a thread that
 * has not begun: what it was to do is done by then.
 *
 *   hr_together ─► its task is listed, one thread is woken ─► it takes a part and wakes two more
 *        └──► part 0 in this thread ─► the task is taken off the list ─► the parts that have begun end
 *
 * They end after 2 seconds without work, also because Python warns of a fork beside other threads. Must not know what is
 * done.
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

enum { MOST = HR_THREADS - 1, LINGER_S = 2 }; /* beside the caller's; a program that searches now and then keeps none */

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

/* Make `count` threads that were counted already; those that cannot be made are not missed. */
static void make(int count) {
    pthread_attr_t detached;
    sigset_t blocked, before;
    int made = 0;
    if (count < 1) return;
    sigfillset(&blocked); /* signals are for the threads of the program, but for a thread's own faults */
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    if (pthread_attr_init(&detached) == 0) {
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        pthread_sigmask(SIG_SETMASK, &blocked, &before);
        for (pthread_t thread; made < count && pthread_create(&thread, &detached, serve, NULL) == 0;) made++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&detached);
    }
    if (made < count) {
        pthread_mutex_lock(&lock);
        threads -= count - made;
        pthread_mutex_unlock(&lock);
    }
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
    int lacking = parts - 1 - idle;
    if (lacking > MOST - threads) lacking = MOST - threads;
    if (lacking > 0) threads += lacking;
    pthread_mutex_unlock(&lock);
    pthread_cond_signal(&listed);
    make(lacking);
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

static void watch_forks(void) { pthread_atfork(before_fork, after_fork, in_child); }

void hr_threads_prepare(void) { /* twice would take the lock twice */
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
}

#endif
