// Package limit limits what unauthenticated sources and users can consume: token buckets, globally or for each source; sets of
// members from which the largest network is displaced first; and log lines.
package limit
