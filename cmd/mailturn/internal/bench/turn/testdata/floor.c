// floor forwards UDP packets between clients and peers, as a relay does, and knows nothing of TURN: the least that a relay costs.
// A client sends "peer" and the address of its peer, gets the port of its relayed address, and sends packets for the peer.
//
// usage: floor HOST PORT [MICROSECONDS [segment]]
//
// After a round with packets it waits for MICROSECONDS, so that it has more of them to forward at once. With segment, it uses
// UDP_GRO and UDP_SEGMENT.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { BATCH = 64, QUEUE = 512, FLOWS = 512, LONGEST = 65536, EVENTS = 128 };

// A flow is a client, its relayed address and its peer.
struct flow {
	int fd;
	struct sockaddr_in client, peer;
};

// An out is a packet of this round, in order; those of a socket are sent together.
struct out {
	int fd, next;
	struct sockaddr_in *to;
	char *data;
	int length;
};

static struct flow flows[FLOWS];
static int table[FLOWS * 4]; // index + 1 in flows by the client
static int made, shared, segment;

static char (*buffers)[LONGEST];
static int used; // of buffers
static struct mmsghdr in[BATCH];
static struct iovec in_iov[BATCH];
static struct sockaddr_in from[BATCH];
static char in_control[BATCH][64];

static struct out outs[QUEUE * 4];
static int out_count;
static int first[65536], last[65536]; // by descriptor, index + 1 in outs
static int pending[QUEUE * 4], pending_count;

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static int *slot(const struct sockaddr_in *client)
{
	uint32_t h = (client->sin_addr.s_addr ^ client->sin_port * 2654435761u) * 2654435761u >> 16;
	for (;; h++) {
		int *i = &table[h % (FLOWS * 4)];
		if (!*i || (flows[*i - 1].client.sin_addr.s_addr == client->sin_addr.s_addr && flows[*i - 1].client.sin_port == client->sin_port))
			return i;
	}
}

static int open_socket(struct in_addr host, int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = host, .sin_port = htons(port)};
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	check(fd >= 0, "socket");
	check(!bind(fd, (struct sockaddr *)&addr, sizeof addr), "bind");
	if (segment)
		check(!setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on), "UDP_GRO");
	return fd;
}

// make makes a flow for a client, in the place of the oldest one if there are too many.
static void make(int epoll, struct in_addr host, const struct sockaddr_in *client)
{
	struct flow *f = &flows[made++ % FLOWS];
	if (made > FLOWS)
		close(f->fd);
	f->client = *client;
	f->fd = open_socket(host, 0);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = f - flows + 1};
	check(!epoll_ctl(epoll, EPOLL_CTL_ADD, f->fd, &event), "epoll_ctl");
	memset(table, 0, sizeof table);
	for (int i = 0; i < made && i < FLOWS; i++)
		*slot(&flows[i].client) = i + 1;
}

// enter makes a flow, or changes its peer, and answers.
static void enter(int epoll, struct in_addr host, struct sockaddr_in *client, const char *text, int length)
{
	if (length != 10)
		return;
	if (!*slot(client))
		make(epoll, host, client);
	struct flow *f = &flows[*slot(client) - 1];
	f->peer.sin_family = AF_INET;
	memcpy(&f->peer.sin_addr, text + 4, 4);
	memcpy(&f->peer.sin_port, text + 8, 2);
	struct sockaddr_in own;
	socklen_t size = sizeof own;
	check(!getsockname(f->fd, (struct sockaddr *)&own, &size), "getsockname");
	sendto(shared, &own.sin_port, 2, 0, (struct sockaddr *)client, sizeof *client);
}

static void queue(int fd, struct sockaddr_in *to, char *data, int length)
{
	struct out *o = &outs[out_count];
	*o = (struct out){.fd = fd, .to = to, .data = data, .length = length};
	if (last[fd])
		outs[last[fd] - 1].next = out_count + 1;
	else {
		first[fd] = out_count + 1;
		pending[pending_count++] = fd;
	}
	last[fd] = ++out_count;
}

static void flush(void)
{
	static struct mmsghdr messages[QUEUE * 4];
	static struct iovec iovs[QUEUE * 4];
	static char controls[QUEUE * 4][CMSG_SPACE(2)];
	for (int p = 0; p < pending_count; p++) {
		int fd = pending[p], n = 0, v = 0;
		for (int i = first[fd]; i;) {
			struct out *o = &outs[i - 1];
			struct msghdr *h = &messages[n].msg_hdr;
			*h = (struct msghdr){.msg_name = o->to, .msg_namelen = sizeof *o->to, .msg_iov = &iovs[v]};
			int parts = 0, length = o->length;
			for (; i; i = outs[i - 1].next) {
				struct out *m = &outs[i - 1];
				if (parts && (!segment || m->to != o->to || m->length != length || parts == 50))
					break;
				iovs[v++] = (struct iovec){m->data, m->length};
				parts++;
			}
			h->msg_iovlen = parts;
			if (parts > 1) {
				h->msg_control = controls[n];
				h->msg_controllen = sizeof controls[n];
				struct cmsghdr *c = CMSG_FIRSTHDR(h);
				c->cmsg_level = IPPROTO_UDP;
				c->cmsg_type = UDP_SEGMENT;
				c->cmsg_len = CMSG_LEN(2);
				*(uint16_t *)CMSG_DATA(c) = length;
			}
			n++;
		}
		for (int done = 0; done < n;) {
			int r = n - done > 1 ? sendmmsg(fd, messages + done, n - done, 0) : sendmsg(fd, &messages[done].msg_hdr, 0) < 0 ? -1 : 1;
			if (r < 0 && errno == EAGAIN)
				break;
			done += r > 0 ? r : 1;
		}
		first[fd] = last[fd] = 0;
	}
	pending_count = out_count = used = 0;
}

// receive forwards what has come to a socket.
static int receive(int epoll, struct in_addr host, int at)
{
	int fd = at ? flows[at - 1].fd : shared, packets = 0;
	for (;;) {
		if (used + BATCH > QUEUE || out_count + BATCH * (segment ? 64 : 1) > QUEUE * 4)
			flush();
		for (int i = 0; i < BATCH; i++) {
			in_iov[i] = (struct iovec){buffers[used + i], LONGEST};
			in[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &in_iov[i], .msg_iovlen = 1};
			if (segment) {
				in[i].msg_hdr.msg_control = in_control[i];
				in[i].msg_hdr.msg_controllen = sizeof in_control[i];
			}
		}
		int n = recvmmsg(fd, in, segment ? 16 : BATCH, 0, 0);
		if (n < 0)
			return packets;
		for (int i = 0; i < n; i++) {
			char *data = buffers[used + i];
			int length = in[i].msg_len, each = length;
			struct cmsghdr *c = segment ? CMSG_FIRSTHDR(&in[i].msg_hdr) : 0;
			if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
				each = *(int *)CMSG_DATA(c);
			struct flow *f = at ? &flows[at - 1] : 0;
			if (!at) {
				if (length == 10 && !memcmp(data, "peer", 4)) {
					enter(epoll, host, &from[i], data, length);
					continue;
				}
				int *known = slot(&from[i]);
				if (!*known)
					continue;
				f = &flows[*known - 1];
			}
			for (int done = 0; done < length; done += each, packets++)
				queue(at ? shared : f->fd, at ? &f->client : &f->peer, data + done, length - done < each ? length - done : each);
		}
		used += n;
		if (n < (segment ? 16 : BATCH))
			return packets;
	}
}

int main(int argc, char **argv)
{
	struct in_addr host;
	check(argc >= 3 && inet_aton(argv[1], &host), "usage: floor HOST PORT [MICROSECONDS [segment]]");
	struct timespec pause = {.tv_nsec = argc > 3 ? atoi(argv[3]) * 1000 : 0};
	segment = argc > 4;
	prctl(PR_SET_TIMERSLACK, 1);
	buffers = calloc(QUEUE, LONGEST);
	int epoll = epoll_create1(0);
	shared = open_socket(host, atoi(argv[2]));
	struct epoll_event events[EVENTS] = {{.events = EPOLLIN | EPOLLET}};
	check(!epoll_ctl(epoll, EPOLL_CTL_ADD, shared, events), "epoll_ctl");
	for (int packets = 0;;) {
		int n = 0;
		if (packets && pause.tv_nsec) {
			nanosleep(&pause, 0);
			n = epoll_wait(epoll, events, EVENTS, 0);
		}
		if (!n)
			n = epoll_wait(epoll, events, EVENTS, -1);
		packets = 0;
		for (int i = 0; i < n; i++)
			packets += receive(epoll, host, events[i].data.u64);
		flush();
	}
}
