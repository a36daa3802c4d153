"""Deployments: fixed policies collect, a replay holds what they bring, a ledger says what was done."""
