package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallygate/tallygate/issuer/store"
)

const (
	// defaultTokenBytes bounds the stored tokens: 1 GiB. With the indexes and the rows that vacuum has
	// not removed yet they take up to three times as much.
	defaultTokenBytes = 1 << 30

	// freeShare says which part of the free space one client may use: an eighth, as in [store.File]. A
	// client alone can use a ninth of defaultTokenBytes, 113 MiB.
	freeShare = 8

	// tokenOverhead is the space that a token takes in addition to its record: 24 bytes of row header,
	// 33 of sum, 8 of expires, and 2 index entries of 16 to 48 bytes, rounded up.
	tokenOverhead = 128
)

type newToken struct {
	sum [32]byte
	store.Token
}

func (t newToken) size() int64 { return int64(len(t.Record) + tokenOverhead) }

// AddToken stores an opaque token under sum, the SHA-256 of its text. The error is [store.ErrExists] if
// sum is already stored, and wraps [store.ErrShare] if the token's client has used its share of the
// space.
func (s *Store) AddToken(sum [32]byte, token store.Token) error {
	return s.tokens.add(newToken{sum, token})
}

// Token returns the opaque token that is stored under sum, and whether there is such a token. The token
// may have expired.
func (s *Store) Token(sum [32]byte) (token store.Token, ok bool, err error) {
	err = s.call(func(ctx context.Context) error {
		var expires *time.Time
		err := s.pool.QueryRow(ctx, "SELECT client, expires, record FROM tallygate.tokens WHERE sum = $1", sum[:]).Scan(&token.Client, &expires, &token.Record)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		token.Expires, ok = fromNullable(expires), err == nil
		return err
	})
	return token, ok, err
}

// storeTokens stores all in one transaction and returns the outcome of each.
func (s *Store) storeTokens(all []newToken) (outcomes []error, err error) {
	err = s.call(func(ctx context.Context) error {
		outcomes = make([]error, len(all))
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			charged := make(map[string]int64)
			for _, t := range all {
				if t.Client != "" {
					charged[t.Client] += t.size()
				}
			}
			if err := s.charge(ctx, tx, all, charged, outcomes); err != nil {
				return err
			}
			if err := insertTokens(ctx, tx, all, outcomes); err != nil {
				return err
			}
			refunds := make(map[string]int64)
			for i, t := range all {
				if t.Client != "" && outcomes[i] != nil {
					refunds[t.Client] -= t.size()
				}
			}
			return addUsage(ctx, tx, refunds, nil)
		})
	})
	return outcomes, err
}

// charge adds the sizes in charged to the usage of the clients. For the tokens that exceed the share of
// their client it sets the outcome to an error. It locks the usage of the clients until the end of the
// transaction.
func (s *Store) charge(ctx context.Context, tx pgx.Tx, all []newToken, charged map[string]int64, outcomes []error) error {
	if len(charged) == 0 {
		return nil
	}
	own := make(map[string]int64)
	if err := addUsage(ctx, tx, charged, own); err != nil {
		return err
	}
	var total int64
	if err := tx.QueryRow(ctx, "SELECT coalesce(sum(bytes), 0)::bigint FROM tallygate.token_usage").Scan(&total); err != nil {
		return err
	}
	for client, bytes := range charged {
		own[client] -= bytes
		total -= bytes
	}
	for i, t := range all {
		if t.Client == "" {
			continue
		}
		if limit := max(0, (s.maxTokenBytes-total)/freeShare); own[t.Client]+t.size() > limit {
			outcomes[i] = fmt.Errorf("%w: it holds %d bytes, and may hold %d", store.ErrShare, own[t.Client], limit)
			continue
		}
		own[t.Client] += t.size()
		total += t.size()
	}
	return nil
}

// addUsage adds the bytes of each client to its usage, in the order of the clients, so that two
// transactions never wait for each other. If after is not nil, addUsage sets in it the usage of each
// client.
func addUsage(ctx context.Context, tx pgx.Tx, added, after map[string]int64) error {
	if len(added) == 0 {
		return nil
	}
	clients := slices.Sorted(maps.Keys(added))
	bytes := make([]int64, len(clients))
	for i, c := range clients {
		bytes[i] = added[c]
	}
	rows, err := tx.Query(ctx, `INSERT INTO tallygate.token_usage AS u (client, bytes)
		SELECT client, bytes FROM unnest($1::text[], $2::bigint[]) AS added(client, bytes) ORDER BY client COLLATE "C"
		ON CONFLICT (client) DO UPDATE SET bytes = greatest(0, u.bytes + excluded.bytes) RETURNING client, bytes`, clients, bytes)
	if err != nil {
		return err
	}
	var client string
	var used int64
	_, err = pgx.ForEachRow(rows, []any{&client, &used}, func() error {
		if after != nil {
			after[client] = used
		}
		return nil
	})
	return err
}

// insertTokens inserts the tokens without an outcome. The outcome of a token that is already stored
// becomes [store.ErrExists].
func insertTokens(ctx context.Context, tx pgx.Tx, all []newToken, outcomes []error) error {
	index := make(map[[32]byte]int, len(all))
	var sums, records [][]byte
	var clients []string
	var expiries []*time.Time
	for i, t := range all {
		if outcomes[i] != nil {
			continue
		}
		outcomes[i] = store.ErrExists // until the row is inserted
		if _, twice := index[t.sum]; twice {
			continue
		}
		index[t.sum] = i
		sums, records = append(sums, t.sum[:]), append(records, append([]byte{}, t.Record...)) // not nil, which is NULL
		clients, expiries = append(clients, t.Client), append(expiries, toNullable(t.Expires))
	}
	if len(sums) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `INSERT INTO tallygate.tokens (sum, client, expires, record)
		SELECT * FROM unnest($1::bytea[], $2::text[], $3::timestamptz[], $4::bytea[]) ON CONFLICT DO NOTHING RETURNING sum`, sums, clients, expiries, records)
	if err != nil {
		return err
	}
	var sum []byte
	_, err = pgx.ForEachRow(rows, []any{&sum}, func() error {
		outcomes[index[[32]byte(sum)]] = nil
		return nil
	})
	return err
}
