"""Operations that span the kinds: tags, search."""
