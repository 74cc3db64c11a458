"""Who calls and what he may do: principals, access keys, policies, decisions."""
