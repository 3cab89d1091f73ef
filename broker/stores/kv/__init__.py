"""The Redis protocol behind the ports: Valkey, Redis, and the Valkey that we start ourselves.

What lies here may be lost with the day: people sign in again, and nobody is let in. Keys:

    t:{<transaction>}   a login in progress, then its tombstone
    g:{<grant>}         an authorization: its code, and the family that came of it; the same id, so the same hash slot
    s:{<session>}       a browser that somebody is signed in on
    u:{<user>}          the ids of a user's sessions, by when they end
    j:{<token>}         an access token that was revoked
    q:{q}<key>          throttles, and the marker that says whether the store was flushed

Secrets are stored as digests. The keys of one script share a hash tag, so that a cluster can run it; `login_finish`
alone reaches over three (transaction and grant; session; user), and has to be split there.
"""
