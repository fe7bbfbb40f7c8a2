// Package limit bounds what strangers and users may take: token buckets, one or one for each source of requests; members of a
// crowd, of which the largest network gives way first; and lines in a log.
package limit
