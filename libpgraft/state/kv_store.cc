#include "libpgraft/state/kv_store.h"

#include <utility>

namespace pgraft::state {

namespace {

std::size_t pair_bytes(const std::string& key, const std::string& value) {
  return kPairOverheadBytes + key.size() + value.size();
}

std::size_t change_bytes(const KvChange& change) {
  return sizeof(KvChange) + change.key.size() + change.value.size();
}

}  // namespace

const KvItem* KvStore::find(const std::string& key) const {
  const auto found = items_.find(key);
  return found == items_.end() ? nullptr : &found->second;
}

KvStore::Effect KvStore::apply(const KvPut& op, Revision revision) {
  return put(op.key, op.value, op.ttl_ms, revision);
}

KvStore::Effect KvStore::apply(const KvDelete& op, Revision revision) {
  return erase(op.key, revision, KvChange::Kind::kDelete);
}

KvStore::Effect KvStore::apply(const KvCompareAndSet& op, Revision revision) {
  const KvItem* item = find(op.key);
  const bool as_expected = op.expected ? item != nullptr && item->value == *op.expected
                                       : (item == nullptr ? 0 : item->modified) == op.revision;
  if (as_expected) return put(op.key, op.value, op.ttl_ms, revision);
  ++counts_.conflicts;
  return {};
}

KvStore::Effect KvStore::apply(const KvExpire& op, Revision revision) {
  const KvItem* item = find(op.key);
  if (item == nullptr || item->modified != op.revision) return {};
  return erase(op.key, revision, KvChange::Kind::kExpire);
}

KvStore::Effect KvStore::put(const std::string& key, const std::string& value, std::uint64_t ttl_ms,
                             Revision revision) {
  const auto found = items_.find(key);
  const bool is_new = found == items_.end();
  const std::size_t before = is_new ? 0 : pair_bytes(key, found->second.value);
  const std::size_t after = pair_bytes(key, value);
  if (after > before && bytes_ - before + after > kMaxKvBytes) {
    ++counts_.refused;
    return {Status(Code::kResourceExhausted, "the key-value store is full: its limit is " +
                                                 std::to_string(kMaxKvBytes) + " bytes"),
            false};
  }
  bytes_ = bytes_ - before + after;
  KvItem& item = is_new ? items_[key] : found->second;
  if (is_new) item.created = revision;
  if (item.ttl_ms != 0) --with_ttl_;
  if (ttl_ms != 0) ++with_ttl_;
  item.value = value;
  item.modified = revision;
  item.ttl_ms = ttl_ms;
  ++counts_.puts;
  remember({revision, KvChange::Kind::kPut, key, value});
  return {Status::ok(), true};
}

KvStore::Effect KvStore::erase(const std::string& key, Revision revision, KvChange::Kind kind) {
  const auto found = items_.find(key);
  if (found == items_.end()) return {};
  bytes_ -= pair_bytes(key, found->second.value);
  if (found->second.ttl_ms != 0) --with_ttl_;
  items_.erase(found);
  ++(kind == KvChange::Kind::kExpire ? counts_.expirations : counts_.deletes);
  remember({revision, kind, key, ""});
  return {Status::ok(), true};
}

void KvStore::remember(KvChange change) {
  revision_ = change.revision;
  change_bytes_ += change_bytes(change);
  changes_.push_back(std::move(change));
  while (changes_.size() > kKeptChanges || change_bytes_ > kKeptChangeBytes) {
    change_bytes_ -= change_bytes(changes_.front());
    forgotten_ = changes_.front().revision;
    changes_.pop_front();
  }
}

std::vector<std::string> KvStore::keys(const std::string& prefix, const std::string& after,
                                       std::size_t max) const {
  std::vector<std::string> found;
  auto it = after < prefix ? items_.lower_bound(prefix) : items_.upper_bound(after);
  for (; it != items_.end() && found.size() < max && it->first.starts_with(prefix); ++it) {
    found.push_back(it->first);
  }
  return found;
}

Result<std::vector<KvChange>> KvStore::changes(const std::string& prefix, Revision after,
                                               std::size_t max) const {
  if (after < forgotten_) {
    return Status(
        Code::kFailedPrecondition,
        "the changes after revision " + std::to_string(after) +
            " are not kept any more: the oldest that this node knows come after revision " +
            std::to_string(forgotten_));
  }
  std::vector<KvChange> found;
  for (const KvChange& change : changes_) {
    if (found.size() == max) break;
    if (change.revision > after && change.key.starts_with(prefix)) found.push_back(change);
  }
  return found;
}

void KvStore::write(Writer& out) const {
  out.number(revision_);
  out.count(items_.size());
  for (const auto& [key, item] : items_) {
    out.text(key);
    out.text(item.value);
    out.number(item.created);
    out.number(item.modified);
    out.number(item.ttl_ms);
  }
}

KvStore KvStore::read(Reader& in) {
  KvStore store;
  store.revision_ = in.number<Revision>();
  store.forgotten_ = store.revision_;
  for (std::size_t n = in.count(kMaxKvBytes, kPairOverheadBytes); n > 0; --n) {
    std::string key = in.text(kMaxKeyBytes);
    KvItem item;
    item.value = in.text(kMaxValueBytes);
    item.created = in.number<Revision>();
    item.modified = in.number<Revision>();
    item.ttl_ms = in.number<std::uint64_t>();
    store.bytes_ += pair_bytes(key, item.value);
    if (store.bytes_ > kMaxKvBytes) in.fail("more keys and values than the limit allows");
    if (!store.items_.empty() && store.items_.rbegin()->first >= key) in.fail("keys out of order");
    if (!in.status()) break;
    store.with_ttl_ += item.ttl_ms != 0 ? 1 : 0;
    store.items_.emplace_hint(store.items_.end(), std::move(key), std::move(item));
  }
  return store;
}

}  // namespace pgraft::state
