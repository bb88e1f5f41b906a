<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** A lock that a process holds while it is ready; it ends with the process, however that ends. */
final class Presence
{
    /** @var resource|null */
    private $lock = null;

    /** @param string $file none where it is empty */
    public function __construct(private readonly string $file)
    {
    }

    /** Says ready, with facts for whoever looks. */
    public function hold(int $uris): void
    {
        if ($this->file === '') {
            return;
        }
        if ($this->lock === null) {
            $lock = @fopen($this->file, 'c+');
            if ($lock === false) {
                Log::warning("cannot write $this->file: nobody will see that this process is ready");
                return;
            }
            // Another process of this name has it; who only looks, has it shared and not for long.
            if (!flock($lock, LOCK_SH | LOCK_NB) || !flock($lock, LOCK_EX)) {
                fclose($lock);
                return;
            }
            $this->lock = $lock;
            Inherited::add($lock);
        }
        ftruncate($this->lock, 0);
        rewind($this->lock);
        fwrite($this->lock, (string) json_encode(['pid' => posix_getpid(), 'uris' => $uris]));
        fflush($this->lock);
    }

    /** Not ready any more. */
    public function drop(): void
    {
        if ($this->lock !== null) {
            // Unlocked, not only closed: a child that has just been forked has it open, too.
            flock($this->lock, LOCK_UN);
            Inherited::close($this->lock);
            $this->lock = null;
        }
    }
}
