/* One piece of work for several threads; see threads.c. */
#ifndef HASHRET_THREADS_H
#define HASHRET_THREADS_H

#ifdef _WIN32
enum { HR_THREADS = 1 }; /* see threads.c */
#else
enum { HR_THREADS = 64 }; /* that one piece of work is divided among, at most */
#endif

typedef void (*hr_share)(void *context, int part);

/* Call share(context, 0) in this thread, and share(context, 1), … up to parts - 1 in others that get to it before this
 * one is done. Returns when all that began have ended; a share must be able to do without the others. */
void hr_together(int parts, hr_share share, void *context);

/* The next of what the threads of a task divide among them, from a counter that begins at 0. */
#ifdef _WIN32 /* one thread, see threads.c */
#define HR_TAKE(counter) ((counter)++)
#else
#define HR_TAKE(counter) __atomic_fetch_add(&(counter), 1, __ATOMIC_RELAXED)
#endif

/* Once, before anything else: threads do not survive a fork, so a child begins without any. */
void hr_threads_prepare(void);

#endif
