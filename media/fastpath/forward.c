//go:build ignore

// What the kernel does with a packet that has come to one of the media ports (docs/fastpath.md). slot.go has the same struct slot.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define inline static inline __attribute__((always_inline))
#define uint(name, n) int(*name)[n]
#define type(name, t) t *name
#define be16(n) ((u16)__builtin_bswap16(n))
#define be32(n) ((u32)__builtin_bswap32(n))

#define TCX_NEXT -1 // to the next program, or the stack: user space has it
#define TCX_DROP 2
#define ARRAY 2
#define MMAPABLE (1 << 10)
#define PSEUDO_HEADER (1 << 4)
#define MANGLED_0 (1 << 5)

// The first part of the kernel's struct __sk_buff, as linux/bpf.h has it.
struct skb {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5],
		hash, tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port,
		data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static u64 (*now_ns)(void) = (void *)5;
static long (*csum_replace)(struct skb *, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static s64 (*csum_diff)(void *from, u32 from_size, void *to, u32 to_size, u32 seed) = (void *)28;
static long (*pull)(struct skb *, u32 len) = (void *)39;
static long (*redirect_neigh)(u32 ifindex, void *params, int size, u64 flags) = (void *)152;

// who has a slot
enum { USER, KERNEL, BUSY, STOPPED };

struct slot {
	u32 state;
	u32 gen; // counts what the kernel writes

	// written by user space while it has the slot; addresses, ports and SSRCs as on the wire
	u32 from_ip, at_ip, out_from_ip, out_to_ip;
	u16 from_port, out_from_port, out_to_port, seq_off;
	u32 ifindex, ssrc, out_ssrc, ts_off;
	u32 frame, rate;
	u8 pt, out_pt, pad[6];

	// where source and line stand, on the engine's clock
	s64 at, due;               // of the last packet
	u64 sum;                   // ticks since the source's start
	s64 offset;                // mean of arrival - timestamp
	s64 transit;               // of RFC 3550 A.8
	u64 jitter;                // ticks * 16
	u64 packets, octets;       // forwarded since the slot was given
	u32 highest;               // extended sequence number
	u32 ts;
	s64 recent[16];            // when the last packets came
};

struct {
	uint(type, ARRAY);
	uint(map_flags, MMAPABLE);
	uint(max_entries, 1);
	type(key, u32);
	type(value, struct slot);
} slots SEC(".maps");

// until when anything is forwarded, on the engine's clock
struct {
	uint(type, ARRAY);
	uint(map_flags, MMAPABLE);
	uint(max_entries, 1);
	type(key, u32);
	type(value, s64);
} until SEC(".maps");

volatile const u64 epoch = 0;      // of the engine's clock, on that of the kernel
volatile const u32 first_port = 0; // of the first slot; each has the second next

#define SECOND 1000000000ULL
#define MOST_PAUSE 300000000LL // longer, and somebody else may be believed (latch.go)
#define MOST_STEP 8            // numbers; user space looks at a source that has lost more
#define MOST_OFF 100000000LL   // from the mean (steady.go)

struct headers {
	u8 to[6], from[6];
	u16 proto;
	u8 version, tos;
	u16 len, id, frag;
	u8 ttl, protocol;
	u16 ip_check;
	u32 saddr, daddr;
	u16 sport, dport, udp_len, udp_check;
	u8 flags, pt;
	u16 seq;
	u32 ts, ssrc;
} __attribute__((packed, aligned(2)));

#define UDP_CHECK 40 // offset of udp_check

// the steadiness of the source, what steady.go makes of a packet; 0 = it is not steady
inline int smooth(struct slot *s, s64 now, u64 sum, s64 *offset, s64 *due) {
	s64 clock = sum / s->rate * SECOND + sum % s->rate * SECOND / s->rate;
	s64 off = now - clock - s->offset;
	if (off > MOST_OFF || off < -MOST_OFF)
		return 0;
	*offset = s->offset + ((off + ((off >> 63) & 15)) >> 4);
	*due = clock + *offset;
	return 1;
}

// the interarrival jitter, as stats.go has it
inline void measure(struct slot *s, s64 now, u32 ts) {
	u64 t = now;
	s64 transit = (s64)(t / SECOND * s->rate + t % SECOND * s->rate / SECOND) - (s64)(u64)ts;
	s64 d = (s64)((u64)(transit - s->transit) << 32) >> 32;
	s->transit = transit;
	if (d < 0)
		d = -d;
	if (d <= (s64)s->rate)
		s->jitter += d - ((s->jitter + 8) >> 4);
}

// takes the packet if it is the next of its source, nothing else; the slot is BUSY
inline int take(struct slot *s, struct headers *h, u32 octets) {
	s64 now = now_ns() - epoch;
	u32 zero = 0;
	s64 *end = map_lookup(&until, &zero);
	u32 ts = be32(h->ts);
	u16 step = be16(h->seq) - (u16)s->highest;
	if (!end || now > *end)
		return 0;
	if (h->flags != 0x80 || h->pt != s->pt || h->ssrc != s->ssrc || !octets)
		return 0;
	if (step < 1 || step > (s->packets ? MOST_STEP : 1) || ts - s->ts != step * s->frame)
		return 0;
	if (now - s->at > MOST_PAUSE)
		return 0;
	u64 sum = s->sum + step * s->frame;
	s64 offset, due;
	if (!smooth(s, now, sum, &offset, &due))
		return 0;
	s->gen++;
	measure(s, now, ts);
	s->sum = sum;
	s->offset = offset;
	s->due = due;
	s->at = now;
	s->recent[s->packets & 15] = now;
	s->packets++;
	s->octets += octets;
	s->highest += step;
	s->ts = ts;
	return 1;
}

// the IP header that a socket would have made
inline void address(struct headers *h, u32 from, u32 to) {
	h->tos = 0;
	h->id = 0;
	h->frag = be16(0x4000);
	h->ttl = 64;
	h->saddr = from;
	h->daddr = to;
	u32 sum = be16(0x4500) + h->len + be16(0x4000) + be16(64 << 8 | 17);
	sum += (from & 0xffff) + (from >> 16) + (to & 0xffff) + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	h->ip_check = ~sum;
}

SEC("tc")
int forward(struct skb *skb) {
	if (skb->protocol != be16(0x0800) || skb->vlan_present || skb->pkt_type)
		return TCX_NEXT;
	struct headers *h = (void *)(u64)skb->data;
	if ((void *)(h + 1) > (void *)(u64)skb->data_end) {
		if (skb->len < sizeof(*h) || pull(skb, sizeof(*h)))
			return TCX_NEXT;
		h = (void *)(u64)skb->data;
		if ((void *)(h + 1) > (void *)(u64)skb->data_end)
			return TCX_NEXT;
	}
	if (h->version != 0x45 || h->protocol != 17 || h->frag & be16(0x3fff))
		return TCX_NEXT;
	u32 index = be16(h->dport) - first_port;
	if (index & 1)
		return TCX_NEXT;
	index >>= 1;
	struct slot *s = map_lookup(&slots, &index);
	if (!s || s->state != KERNEL)
		return TCX_NEXT;
	if (h->saddr != s->from_ip || h->sport != s->from_port || h->daddr != s->at_ip)
		return TCX_NEXT;
	if (h->flags >> 6 != 2 || (h->pt >= 192 && h->pt <= 223)) // STUN and the like, and RTCP
		return TCX_NEXT;
	if (__sync_val_compare_and_swap(&s->state, KERNEL, BUSY) != KERNEL)
		return TCX_NEXT;
	u16 len = be16(h->len), udp = be16(h->udp_len);
	if (skb->gso_size || len != udp + 20 || udp < 20 || skb->len < (u32)len + 14 || !take(s, h, udp - 20)) {
		__sync_lock_test_and_set(&s->state, STOPPED); // and what follows is user space's too, in the order that it came in
		return TCX_NEXT;
	}

	u32 was[6] = {h->saddr, h->daddr, (u32)h->dport << 16 | h->sport, (u32)h->seq << 16 | (u32)h->pt << 8 | h->flags, h->ts, h->ssrc};
	u32 ifindex = s->ifindex;
	address(h, s->out_from_ip, s->out_to_ip);
	h->sport = s->out_from_port;
	h->dport = s->out_to_port;
	h->pt = s->out_pt;
	h->seq = be16((u16)(be16(h->seq) + s->seq_off));
	h->ts = be32(be32(h->ts) + s->ts_off);
	h->ssrc = s->out_ssrc;
	u32 is[6] = {h->saddr, h->daddr, (u32)h->dport << 16 | h->sport, (u32)h->seq << 16 | (u32)h->pt << 8 | h->flags, h->ts, h->ssrc};
	__sync_lock_test_and_set(&s->state, KERNEL);

	if (csum_replace(skb, UDP_CHECK, 0, csum_diff(was, 8, is, 8, 0), PSEUDO_HEADER | MANGLED_0) ||
	    csum_replace(skb, UDP_CHECK, 0, csum_diff(was + 2, 16, is + 2, 16, 0), MANGLED_0))
		return TCX_DROP;
	return redirect_neigh(ifindex, 0, 0, 0);
}
